//! A root key that a real TPM opens: swtpm and tpm2-tools (Debian packages of these names).

use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use tempfile::TempDir;
use ticket_format::statement::AutoKind;

use super::rig::{Rig, both_open};
use crate::root::{Means, RootError, Tpm2Error, Tpm2Means};

const HOW: &str = "install it with: apt-get install swtpm swtpm-tools tpm2-tools";

/// A TPM of its own, gone with this.
struct Tpm {
    dir: TempDir,
    child: Child,
}

impl Drop for Tpm {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

impl Tpm {
    fn new() -> Self {
        let dir = tempfile::tempdir().unwrap();
        let child = start(dir.path());
        let tpm = Self { dir, child };
        tpm.wait();
        tpm
    }

    fn tcti(&self) -> String {
        format!("swtpm:path={}", self.dir.path().join("tpm").display())
    }

    /// Until it answers: it makes its socket when it is ready.
    fn wait(&self) {
        let begun = Instant::now();
        while !self.dir.path().join("tpm.ctrl").exists() || !self.dir.path().join("tpm").exists() {
            assert!(begun.elapsed() < Duration::from_secs(30), "no TPM");
            std::thread::yield_now();
        }
    }

    /// Power off and on: registers begin at zero again.
    fn restart(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
        for name in ["tpm", "tpm.ctrl"] {
            let _ = std::fs::remove_file(self.dir.path().join(name));
        }
        self.child = start(self.dir.path());
        self.wait();
    }

    fn tool(&self, words: &[&str]) -> String {
        let ran = Command::new(words[0])
            .args(&words[1..])
            .env("TPM2TOOLS_TCTI", self.tcti())
            .output()
            .unwrap_or_else(|_| panic!("{} is missing; {HOW}", words[0]));
        let said = String::from_utf8_lossy(&ran.stderr);
        assert!(ran.status.success(), "{words:?}: {said}");
        String::from_utf8(ran.stdout).unwrap()
    }

    /// As a boot that runs something else would.
    fn extend(&self, register: u8) {
        let digest = "11".repeat(32);
        self.tool(&["tpm2_pcrextend", &format!("{register}:sha256={digest}")]);
    }

    /// That nothing takes one of its few places.
    fn is_empty(&self) {
        for what in [
            "handles-transient",
            "handles-loaded-session",
            "handles-saved-session",
        ] {
            assert_eq!(self.tool(&["tpm2_getcap", what]).trim(), "", "{what}");
        }
    }

    fn means(&self, pcrs: &str) -> Means {
        Means::Tpm2(Tpm2Means {
            tcti: Some(self.tcti()),
            pcrs: pcrs.to_owned(),
        })
    }
}

fn start(dir: &Path) -> Child {
    let (data, control) = (dir.join("tpm"), dir.join("tpm.ctrl"));
    Command::new("swtpm")
        .args(["socket", "--tpm2", "--flags", "not-need-init,startup-clear"])
        .arg("--tpmstate")
        .arg(format!("dir={}", dir.display()))
        .arg("--server")
        .arg(format!("type=unixio,path={}", data.display()))
        .arg("--ctrl")
        .arg(format!("type=unixio,path={}", control.display()))
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .unwrap_or_else(|_| panic!("swtpm is missing; {HOW}"))
}

fn kept(answer: Result<crate::sealed::RootKey, RootError>) {
    match answer {
        Err(RootError::Tpm2(Tpm2Error::Kept { .. })) => {}
        other => panic!("{other:?}"),
    }
}

#[test]
fn a_tpm_opens_the_root_key_while_its_registers_are_as_they_were() {
    // rule: ROOT-2
    let mut tpm = Tpm::new();
    let rig = Rig::new();
    let means = tpm.means("sha256:0,7");
    let (ways, key) = rig.create(&means).unwrap();
    assert_eq!(ways.kind(), AutoKind::Tpm2);
    both_open(&ways, &means, &[2, 3], &key);
    assert!(
        !rig.at("root/work").exists(),
        "nothing of the tools is left"
    );
    // Often: nothing may pile up in the TPM's few places.
    for _ in 0..4 {
        assert!(ways.open_auto(&means).unwrap().same(&key));
    }
    tpm.is_empty();
    // Registers of the wrap count, not those of the configuration.
    assert!(ways.open_auto(&tpm.means("sha256:16")).unwrap().same(&key));
    tpm.extend(3);
    assert!(ways.open_auto(&means).unwrap().same(&key));
    tpm.extend(7);
    for _ in 0..4 {
        kept(ways.open_auto(&means));
    }
    tpm.is_empty();
    // Shares do not need it.
    let shares = super::rig::shares(&ways, &[1, 2]);
    assert!(ways.open_shares(&shares).unwrap().same(&key));
    tpm.restart();
    assert!(ways.open_auto(&means).unwrap().same(&key));
}

#[test]
fn another_tpm_opens_nothing_and_a_rekey_moves_to_it() {
    // rule: ROOT-2
    let (one, other) = (Tpm::new(), Tpm::new());
    let rig = Rig::new();
    let (ways, key) = rig.create(&one.means("sha256:0")).unwrap();
    kept(ways.open_auto(&other.means("sha256:0")));
    let means = other.means("sha256:0,1");
    let (next, next_key) = rig.rekey(&ways, &key, &means).unwrap();
    both_open(&next, &means, &[1, 2, 4], &next_key);
    kept(next.open_auto(&one.means("sha256:0")));
}

#[test]
fn the_tpms_object_opens_by_its_policy_only() {
    // rule: ROOT-2
    let tpm = Tpm::new();
    let rig = Rig::new();
    let (_, key) = rig.create(&tpm.means("sha256:0")).unwrap();
    drop(key);
    let auto = std::fs::read(rig.at("root/1/auto")).unwrap();
    let wrap = {
        use crate::root::auto::AutoWrap;
        use ticket_format::cbor::Decode;
        AutoWrap::from_cbor(&auto, 4_096).unwrap()
    };
    let crate::root::auto::Wrapped::Tpm2 { object, .. } = wrap.wrapped else {
        panic!("another kind");
    };
    let work = tpm.dir.path();
    std::fs::write(work.join("public"), &object.public).unwrap();
    std::fs::write(work.join("private"), &object.private).unwrap();
    let at = |name: &str| work.join(name).display().to_string();
    let (primary, loaded) = (at("primary"), at("loaded"));
    tpm.tool(&[
        "tpm2_createprimary",
        "-Q",
        "-C",
        "o",
        "-G",
        "ecc256",
        "-g",
        "sha256",
        "-c",
        &primary,
    ]);
    let (public, private) = (at("public"), at("private"));
    tpm.tool(&[
        "tpm2_load",
        "-Q",
        "-C",
        &primary,
        "-u",
        &public,
        "-r",
        &private,
        "-c",
        &loaded,
    ]);
    tpm.tool(&["tpm2_flushcontext", "-t"]);
    let unsealed = Command::new("tpm2_unseal")
        .args(["-c", &loaded])
        .env("TPM2TOOLS_TCTI", tpm.tcti())
        .output()
        .unwrap();
    assert!(!unsealed.status.success(), "an empty password opens it");
    assert!(unsealed.stdout.is_empty());
}

#[test]
fn a_tpm_that_is_not_there_is_told_and_leaves_no_root_key() {
    let rig = Rig::new();
    let nowhere = Means::Tpm2(Tpm2Means {
        tcti: Some(format!("swtpm:path={}", rig.at("none").display())),
        pcrs: "sha256:0".to_owned(),
    });
    let error = rig.create(&nowhere).unwrap_err();
    let said = error.to_string();
    assert!(
        matches!(error, RootError::Tpm2(Tpm2Error::Failed { .. })),
        "{said}"
    );
    assert!(said.len() <= 256 && !said.contains('\n'), "{said}");
    assert!(!rig.root().exists() && rig.names().is_empty());
    let none = Means::Tpm2(Tpm2Means {
        tcti: None,
        pcrs: "sha256:0 --help".to_owned(),
    });
    let error = rig.create(&none).unwrap_err();
    assert!(
        matches!(error, RootError::Tpm2(Tpm2Error::Pcrs(_))),
        "{error}"
    );
}
