//! A real token for tests: SoftHSM (Debian package softhsm2).

use std::path::{Path, PathBuf};
use std::process::Command;

use cryptoki::context::{CInitializeArgs, CInitializeFlags, Pkcs11};
use cryptoki::session::{Session, UserType};
use cryptoki::types::AuthPin;

use crate::files;
use crate::root::Pkcs11Means;

const HOW: &str = "SoftHSM is missing; install it with: apt-get install softhsm2";
const MODULES: [&str; 2] = [
    "/usr/lib/softhsm/libsofthsm2.so",
    "/usr/lib64/pkcs11/libsofthsm2.so",
];
const PIN: &str = "1234567";

/// The library reads where its tokens are from the environment of its process: each of these tests runs
/// in one of its own.
pub(crate) fn in_a_process(test: &str) {
    let dir = tempfile::tempdir().unwrap();
    let conf = dir.path().join("softhsm2.conf");
    let tokens = dir.path().join("tokens");
    std::fs::create_dir(&tokens).unwrap();
    let text = format!(
        "directories.tokendir = {}\nobjectstore.backend = file\nlog.level = ERROR\n",
        tokens.display()
    );
    std::fs::write(&conf, text).unwrap();
    for label in ["postern", "other"] {
        let made = Command::new("softhsm2-util")
            .args(["--init-token", "--free", "--label", label])
            .args(["--so-pin", "12345678", "--pin", PIN])
            .env("SOFTHSM2_CONF", &conf)
            .output()
            .expect(HOW);
        let said = String::from_utf8_lossy(&made.stderr);
        assert!(made.status.success(), "{said}");
    }
    let ran = Command::new(std::env::current_exe().unwrap())
        .args([test, "--exact", "--ignored", "--nocapture"])
        .env("SOFTHSM2_CONF", &conf)
        .output()
        .unwrap();
    let said = String::from_utf8_lossy(&ran.stdout);
    let errors = String::from_utf8_lossy(&ran.stderr);
    assert!(ran.status.success(), "{said}\n{errors}");
    assert!(said.contains("1 passed"), "{said}");
}

fn module() -> PathBuf {
    let found = MODULES.iter().map(PathBuf::from).find(|path| path.exists());
    found.expect(HOW)
}

/// Keys of a label in the token `postern`, its PIN in a new file.
pub(crate) fn means(pin_file: &Path, key: &str) -> Pkcs11Means {
    files::write_private(pin_file, format!("{PIN}\n").as_bytes()).unwrap();
    Pkcs11Means {
        module: module(),
        token: "postern".to_owned(),
        key: key.to_owned(),
        pin_file: pin_file.to_owned(),
    }
}

/// Works by hand in the token `postern`, while nobody else has the library.
pub(crate) fn with_session(work: impl FnOnce(&Session)) {
    let library = Pkcs11::new(module()).unwrap();
    let arguments = CInitializeArgs::new(CInitializeFlags::OS_LOCKING_OK);
    library.initialize(arguments).unwrap();
    let slots = library.get_slots_with_initialized_token().unwrap();
    let mut slots = slots.into_iter();
    let slot = slots.find(|slot| library.get_token_info(*slot).unwrap().label() == "postern");
    let session = library.open_rw_session(slot.unwrap()).unwrap();
    let pin: AuthPin = PIN.to_owned().into();
    session.login(UserType::User, Some(&pin)).unwrap();
    work(&session);
    drop(session);
    library.finalize().unwrap();
}
