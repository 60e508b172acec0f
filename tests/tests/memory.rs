//! What the memory of a running key server shows of its keys, and what the server can reach (MEM-1,
//! MEM-2), by the real program.
#![allow(missing_docs)]

use std::collections::BTreeMap;
use std::fs;
use std::os::unix::fs::FileExt as _;
use std::os::unix::process::CommandExt as _;
use std::path::Path;
use std::process::{Command, Stdio};

use store::{KeyRange, RedbStore, Store as _};
use tests::house::{DATASET, House, files_below, private};
use tests::wire::{Presented, Wire};
use ticket_format::Context;
use ticket_format::messages::Verb;
use ticket_format::messages::batch::RedeemBody;

/// The most that is read of a process's memory at once.
const PIECE: usize = 1 << 20;

fn context() -> Context {
    let pairs = [
        ("name".to_owned(), "a".to_owned()),
        ("purpose".to_owned(), "test".to_owned()),
    ];
    Context::new(BTreeMap::from(pairs)).expect("a context")
}

/// The secrets of the key server's KEK versions, taken from its files with the root key's credential
/// while it is stopped: every string of 32 bytes in a version's key material, which are its symmetric
/// key and its seed.
async fn kek_secrets(house: &House) -> Vec<[u8; 32]> {
    let (ways, root) = house.root_key(&house.path("key-server-root"));
    let mut sealed: Vec<(String, Vec<u8>)> = Vec::new();
    let data = house.path("key-server/data");
    for base in [ways.sealed(), &data] {
        for (path, bytes) in files_below_if_there(&base.join("kek")) {
            let place = path.strip_prefix(base).expect("below").with_extension("");
            sealed.push((place.display().to_string(), bytes));
        }
    }
    let store = RedbStore::open(data.join("store.redb"), store::Options::default());
    let store = store.expect("the store");
    let page = store
        .range(KeyRange::prefix("kek/"), 100)
        .await
        .expect("records");
    for (key, entry) in page.entries {
        let key = String::from_utf8(key).expect("text");
        sealed.push((key, entry.value.to_vec()));
    }
    store.close().await;
    let mut secrets = Vec::new();
    for (place, bytes) in sealed {
        let Ok(plain) = root.open(&place, &bytes) else {
            continue;
        };
        let strings = plain
            .windows(34)
            .filter(|window| window[..2] == [0x58, 0x20]);
        secrets.extend(strings.map(|string| <[u8; 32]>::try_from(&string[2..]).expect("32")));
    }
    secrets
}

fn files_below_if_there(dir: &Path) -> Vec<(std::path::PathBuf, Vec<u8>)> {
    if dir.is_dir() {
        files_below(dir)
    } else {
        Vec::new()
    }
}

fn holds(bytes: &[u8], secret: &[u8]) -> bool {
    bytes.windows(secret.len()).any(|window| window == secret)
}

/// The names of the mappings of a process in which a secret stands, as root sees them.
fn found(pid: u32, secrets: &[[u8; 32]]) -> Vec<String> {
    let maps = fs::read_to_string(format!("/proc/{pid}/maps")).expect("the maps");
    let memory = fs::File::open(format!("/proc/{pid}/mem")).expect("the memory");
    let mut found = Vec::new();
    let mut piece = vec![0; PIECE];
    for line in maps.lines() {
        let (range, _) = line.split_once(' ').expect("a range");
        let (from, to) = range.split_once('-').expect("a range");
        let hex = |text| u64::from_str_radix(text, 16).expect("an address");
        let (mut at, end) = (hex(from), hex(to));
        while at < end {
            let len = usize::try_from(end - at).unwrap_or(PIECE).min(PIECE);
            // What cannot be read shows nothing: guard pages, and pages that are secret.
            let Ok(read) = memory.read_at(&mut piece[..len], at) else {
                break;
            };
            if read == 0 {
                break;
            }
            for (n, secret) in secrets.iter().enumerate() {
                let mut windows = piece[..read].windows(secret.len());
                if let Some(place) = windows.position(|window| window == secret) {
                    let below = end - at - place as u64;
                    found.push(format!("secret {n}, {below:#x} below the end of {line}"));
                }
            }
            // A secret may stand across two pieces.
            at += if at + (read as u64) < end {
                (read as u64).saturating_sub(31).max(1)
            } else {
                read as u64
            };
        }
    }
    found
}

fn is_root() -> bool {
    rustix::process::geteuid().is_root()
}

/// That a mapping is locked, in no core file and not inherited: what its flags say.
fn is_kept_in(pid: u32, mapping: &str) -> bool {
    let maps = fs::read_to_string(format!("/proc/{pid}/smaps")).expect("the maps");
    let behind = maps.split_once(mapping).map_or("", |(_, behind)| behind);
    let flags = behind
        .lines()
        .find_map(|line| line.strip_prefix("VmFlags:"));
    let flags: Vec<&str> = flags.unwrap_or_default().split_whitespace().collect();
    ["lo", "dd", "wf"].iter().all(|flag| flags.contains(flag))
}

/// The secrets stand in no file of the house: stores, logs, error output.
fn in_no_file(house: &House, secrets: &[[u8; 32]]) {
    for (path, bytes) in files_below(house.dir.path()) {
        for secret in secrets {
            assert!(!holds(&bytes, secret), "{}", path.display());
        }
    }
}

/// What a node that means harm asks for, with a wrap that is good.
async fn hostile(server: &Wire, presented: &Presented, wrap: &[u8]) {
    for at in 0..wrap.len() {
        let mut bent = wrap.to_vec();
        bent[at] ^= 0x40;
        let body = RedeemBody::encode(&presented.head(), &[(&bent, &context())]);
        server.send(&presented.batch(Verb::Redeem, body)).await;
    }
    for cut in [1, 2, wrap.len() / 2, wrap.len() - 1] {
        let body = RedeemBody::encode(&presented.head(), &[(&wrap[..cut], &context())]);
        server.send(&presented.batch(Verb::Redeem, body)).await;
        server.raw(&wrap[..cut]).await;
    }
    for verb in [Verb::Redeem, Verb::Generate, Verb::Rewrap, Verb::Administer] {
        server.send(&presented.batch(verb, vec![0xff; 4_096])).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_kek_that_is_in_use_is_found_in_no_memory_that_can_be_read_and_in_no_file() {
    // rule: MEM-1
    let mut house = House::start();
    house.key_server.stop();
    let secrets = kek_secrets(&house).await;
    assert!(
        secrets.len() >= 2,
        "a KEK version has a symmetric key and a seed"
    );
    // The search finds what is there to be found.
    let planted = house.path("planted");
    fs::write(
        &planted,
        [&[0x11; 1_001][..], &secrets[0], b"behind"].concat(),
    )
    .expect("written");
    let found_it = files_below(house.dir.path());
    assert!(found_it.iter().any(|(_, bytes)| holds(bytes, &secrets[0])));
    fs::remove_file(&planted).expect("removed");
    house.key_server.start();

    let node = house.node(0).await;
    let ticket = node
        .issue(&house.to_broker().await, DATASET)
        .await
        .expect("a ticket");
    let server = house.to_key_server().await;
    let presented = server.present_when_leased(&ticket).await;
    let (wrap, dek) = server
        .generate(&presented, &context())
        .await
        .expect("a DEK");
    hostile(&server, &presented, &wrap).await;
    let opened = server
        .redeem(&presented, &[(&wrap, &context())])
        .await
        .expect("redeemed");
    assert_eq!(opened[0].as_ref().expect("opened").0, Some(dek));
    // The next version is made from its key's pages as the first was.
    house
        .to_key_server()
        .await
        .rotate(&house.admins, DATASET)
        .await;

    let pid = house.key_server.pid();
    in_no_file(&house, &secrets);
    assert!(
        is_root(),
        "run this as root: nobody else reads another process's memory"
    );
    let public = house.key_server_server().tls_key.to_bytes();
    assert!(
        !found(pid, &[public]).is_empty(),
        "the search finds what is in ordinary memory"
    );
    let maps = fs::read_to_string(format!("/proc/{pid}/maps")).expect("the maps");
    let places = found(pid, &secrets);
    if maps.contains("secretmem") {
        assert!(places.is_empty(), "in {places:#?}");
    } else {
        // Locked pages are in root's view: in them and nowhere else.
        for place in &places {
            let mapping = place.rsplit_once("end of ").map_or("", |(_, map)| map);
            assert!(is_kept_in(pid, mapping), "in {places:#?}");
        }
    }

    // The same user, another process: it is not dumpable.
    let status = fs::read_to_string(format!("/proc/{pid}/limits")).expect("limits");
    let core = status
        .lines()
        .find(|line| line.starts_with("Max core file size"));
    let core: Vec<&str> = core.expect("a limit").split_whitespace().collect();
    assert_eq!(core[4..6], ["0", "0"], "core files are off");
    let mut other = Command::new("cat");
    other
        .arg(format!("/proc/{pid}/mem"))
        .uid(65_534)
        .gid(65_534);
    let other = other
        .stdout(Stdio::null())
        .stderr(Stdio::piped())
        .output()
        .expect("cat");
    let said = String::from_utf8_lossy(&other.stderr).into_owned();
    assert!(
        !other.status.success() && said.contains("ermission"),
        "{said}"
    );

    // What a start says that finds key material damaged.
    house.key_server.stop();
    let (ways, _) = house.root_key(&house.path("key-server-root"));
    let (file, mut bytes) = files_below(&ways.sealed().join("kek")).remove(0);
    let last = bytes.len() - 1;
    bytes[last] ^= 1;
    private(&file, &bytes);
    let said = house.key_server.fails();
    assert_ne!(said.code, Some(0));
    assert!(said.stderr.contains("key material"), "{}", said.stderr);
    for secret in &secrets {
        assert!(!holds(said.stderr.as_bytes(), secret) && !holds(&said.stdout, secret));
        let hex: String = secret.iter().map(|byte| format!("{byte:02x}")).collect();
        assert!(!said.stderr.contains(&hex) && !house.key_server.log().contains(&hex));
    }
    in_no_file(&house, &secrets);
}

#[test]
fn a_running_key_server_reads_nothing_that_it_was_not_given() {
    // rule: MEM-2
    let house = House::start();
    let log = house.key_server.log();
    if log.contains("paths=Open") {
        return;
    }
    let drill = |name: &str| house.as_admin(name, &["drill"]);
    drill("owner-1").ok();
    assert!(drill("owner-2").ok().contains("both ways"));
    // Another file under the credential's name, of the same user and content, is not what it was given
    // at its start: it reads it as little as whatever a link under that name leads to.
    let credential = house.path("key-server-root");
    let bytes = fs::read(&credential).expect("a credential");
    fs::rename(&credential, house.path("aside")).expect("renamed");
    private(&credential, &bytes);
    drill("owner-1").ok();
    let said = drill("owner-2");
    assert_eq!(said.code, Some(1), "{}", said.stderr);
    assert!(said.stderr.contains("ermission denied"), "{}", said.stderr);
    fs::remove_file(&credential).expect("removed");
    fs::rename(house.path("aside"), &credential).expect("renamed");
    drill("owner-1").ok();
    assert!(drill("owner-2").ok().contains("both ways"));
}

#[test]
fn running_servers_are_confined_and_serve_and_say_what_the_kernel_gave() {
    // rule: MEM-2
    let house = House::start();
    for server in [&house.broker, &house.key_server] {
        let log = server.log();
        let line = log
            .lines()
            .find(|line| line.contains("confined") && line.contains("calls"));
        let line = line.unwrap_or_else(|| panic!("nothing is said:\n{log}"));
        assert!(line.contains("true"), "system calls are filtered: {line}");
        for task in fs::read_dir(format!("/proc/{}/task", server.pid())).expect("threads") {
            let status = fs::read_to_string(task.expect("a thread").path().join("status"));
            let status = status.expect("a status");
            let has = |name: &str, value: &str| {
                let mut lines = status.lines().filter_map(|line| line.strip_prefix(name));
                lines.any(|rest| rest.trim() == value)
            };
            assert!(has("Seccomp:", "2") && has("NoNewPrivs:", "1"), "{status}");
        }
    }
}
