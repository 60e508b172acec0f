//! The `postern-witness` program, run as a process: keys, configuration, exit codes, and being killed.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::TcpStream;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::sync::{Arc, LazyLock, Mutex};
use std::time::Duration;

use ticket_format::time::Timestamp;
use ticket_format::tlog::{Checkpoint, Hash, LogSecret, Origin, Vkey, merkle, note};

fn program() -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_postern-witness"));
    command
        .env_remove("POSTERN_WITNESS_DATA_DIR")
        .env_remove("POSTERN_WITNESS_CONFIG")
        .env_remove("POSTERN_LOG")
        .env_remove("NOTIFY_SOCKET");
    command
}

fn run(args: &[&str]) -> Output {
    program().args(args).output().unwrap()
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8(bytes.to_vec()).unwrap()
}

fn path(path: &Path) -> &str {
    path.to_str().unwrap()
}

fn secret() -> &'static LogSecret {
    static SECRET: LazyLock<LogSecret> = LazyLock::new(|| {
        let origin: Origin = "realm/broker/00112233445566aa".parse().unwrap();
        LogSecret::from_seeds(origin, &[1; 32], &[2; 32]).unwrap()
    });
    &SECRET
}

fn log_vkeys() -> [String; 2] {
    secret().key().vkeys().map(|key| key.to_string())
}

/// A new witness: the directory around it, its data directory, its vkeys.
fn made() -> (tempfile::TempDir, PathBuf, Vec<Vkey>) {
    let dir = tempfile::tempdir().unwrap();
    let data = dir.path().join("data");
    let name = "witness.example/w1";
    let output = run(&["init", "--name", name, "--data-dir", path(&data)]);
    assert!(output.status.success(), "{}", text(&output.stderr));
    let keys = text(&output.stdout);
    let keys = keys.lines().map(|line| line.parse().unwrap()).collect();
    (dir, data, keys)
}

/// A running witness; killed when dropped.
struct Running {
    child: Child,
    address: String,
}

impl Running {
    fn start(data: &Path) -> Self {
        let [ed25519, ml_dsa] = log_vkeys();
        let mut child = program()
            .args(["run", "--listen", "127.0.0.1:0", "--data-dir", path(data)])
            .args(["--log", &ml_dsa, "--log", &ed25519, "--log-level", "off"])
            .stdout(Stdio::piped())
            .stderr(Stdio::inherit())
            .spawn()
            .unwrap();
        let mut first = String::new();
        let mut stdout = BufReader::new(child.stdout.take().unwrap());
        stdout.read_line(&mut first).unwrap();
        let address = first.trim().strip_prefix("listening ").unwrap().to_owned();
        Self { child, address }
    }

    /// SIGKILL.
    fn kill(mut self) {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Status and body; [`None`] when the process is gone.
fn submit(address: &str, body: &str) -> Option<(u16, String)> {
    let mut stream = TcpStream::connect(address).ok()?;
    stream
        .set_read_timeout(Some(Duration::from_secs(20)))
        .ok()?;
    let head = format!(
        "POST /add-checkpoint HTTP/1.1\r\nHost: w\r\nContent-Length: {}\r\nConnection: close\r\n\r\n",
        body.len()
    );
    stream.write_all(head.as_bytes()).ok()?;
    stream.write_all(body.as_bytes()).ok()?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer).ok()?;
    let (head, body) = answer.split_once("\r\n\r\n")?;
    // An answer that was cut short is none.
    let length = head.lines().find_map(|line| {
        let (name, value) = line.split_once(": ")?;
        let is_length = name.eq_ignore_ascii_case("content-length");
        is_length.then(|| value.parse::<usize>().ok())?
    })?;
    let status = head.split(' ').nth(1)?.parse().ok()?;
    (body.len() == length).then(|| (status, body.to_owned()))
}

/// A shard of numbered entries, in one of two branches that part at the third entry.
#[derive(Clone, Copy)]
struct Branch {
    shard: u64,
    branch: u64,
}

const PART: u64 = 2;

impl Branch {
    fn range(self, from: u64, to: u64) -> Hash {
        match to - from {
            0 => merkle::empty_root(),
            1 if from < PART => merkle::leaf_hash(&from.to_be_bytes()),
            1 => merkle::leaf_hash(&[from.to_be_bytes(), self.branch.to_be_bytes()].concat()),
            count => {
                let middle = from + left(count);
                merkle::node_hash(&self.range(from, middle), &self.range(middle, to))
            }
        }
    }

    fn proof(self, old: u64, from: u64, to: u64, whole: bool) -> Vec<Hash> {
        let count = to - from;
        if old == count {
            return Vec::from_iter((!whole).then(|| self.range(from, to)));
        }
        let middle = left(count);
        if old <= middle {
            let mut proof = self.proof(old, from, from + middle, whole);
            proof.push(self.range(from + middle, to));
            proof
        } else {
            let mut proof = self.proof(old - middle, from + middle, to, false);
            proof.push(self.range(from, from + middle));
            proof
        }
    }

    fn checkpoint(self, size: u64) -> Checkpoint {
        Checkpoint {
            shard: secret().key().origin.shard(self.shard),
            size,
            root: self.range(0, size),
        }
    }

    fn request(self, log: &LogSecret, old: u64, new: u64) -> String {
        let proof = match old {
            0 => Vec::new(),
            old => self.proof(old, 0, new, true),
        };
        let time = Timestamp::from_seconds(1_800_000_000);
        let signed = log.sign(&self.checkpoint(new), time);
        let asked = audit_log::witness::AddCheckpoint {
            old,
            proof,
            note: signed.note(),
        };
        asked.to_body()
    }
}

fn left(count: u64) -> u64 {
    1 << (63 - (count - 1).leading_zeros())
}

/// That an answer's lines are both keys' cosignatures on the checkpoint.
fn assert_cosigned(keys: &[Vkey], checkpoint: &Checkpoint, body: &str) {
    let lines = note::signature_lines(body).unwrap();
    assert_eq!((lines.len(), keys.len()), (2, 2));
    for key in keys {
        let of_key = lines.iter().find(|line| line.is_of(key)).unwrap();
        let time = key.verify(checkpoint, &of_key.signature).unwrap().unwrap();
        assert!(time > 1_700_000_000);
    }
}

#[test]
fn init_makes_private_keys_once_and_prints_their_vkeys() {
    let (_dir, data, keys) = made();
    let kinds: Vec<u8> = keys.iter().map(|key| key.kind() as u8).collect();
    assert_eq!(kinds, [4, 6]);
    assert!(keys.iter().all(|key| key.name() == "witness.example/w1"));
    let mode = |path: &Path| std::fs::metadata(path).unwrap().permissions().mode() & 0o777;
    assert_eq!(mode(&data.join("witness.keys")), 0o600);
    assert_eq!(mode(&data), 0o700);
    let printed = run(&["vkeys", "--data-dir", path(&data)]);
    let printed: Vec<Vkey> = text(&printed.stdout)
        .lines()
        .map(|line| line.parse().unwrap())
        .collect();
    assert_eq!(printed, keys);
    let again = run(&["init", "--name", "other", "--data-dir", path(&data)]);
    assert_eq!(again.status.code(), Some(7), "{}", text(&again.stderr));
    let elsewhere = data.join("x");
    let bad = run(&["init", "--name", "a+b", "--data-dir", path(&elsewhere)]);
    assert_eq!(bad.status.code(), Some(2), "{}", text(&bad.stderr));
    assert!(!elsewhere.exists());
}

#[test]
fn what_cannot_be_used_is_told_in_three_parts_with_its_exit_code() {
    let (dir, data, _) = made();
    let [ed25519, ml_dsa] = log_vkeys();
    let refused = |args: &[&str], code: i32, word: &str| {
        let output = run(args);
        let said = text(&output.stderr);
        assert_eq!(output.status.code(), Some(code), "{said}");
        let parts = ["error: ", "\n  why:  ", "\n  next: "];
        assert!(parts.iter().all(|part| said.contains(part)), "{said}");
        assert!(said.contains(word), "{said}");
    };
    let listen = ["run", "--listen", "127.0.0.1:0", "--data-dir"];
    let with = |data: &str, logs: &[&str]| -> Vec<String> {
        let logs = logs.iter().flat_map(|log| ["--log", log]);
        listen
            .into_iter()
            .chain([data])
            .chain(logs)
            .map(str::to_owned)
            .collect()
    };
    let as_args = |args: &'_ [String]| {
        args.iter()
            .map(String::as_str)
            .collect::<Vec<_>>()
            .join("\n")
    };
    let check = |args: Vec<String>, code, word: &str| {
        let joined = as_args(&args);
        refused(&joined.split('\n').collect::<Vec<_>>(), code, word);
    };
    check(with(path(&data), &[]), 10, "no log is named");
    check(with(path(&data), &[&ed25519]), 10, "it needs two");
    let bent = ml_dsa.replacen("00112233", "00112234", 1);
    check(with(path(&data), &[&ed25519, &bent]), 10, "log vkey 2");
    let none = dir.path().join("none");
    check(
        with(path(&none), &[&ed25519, &ml_dsa]),
        10,
        "does not exist",
    );
    // A file with an unknown key.
    let config = dir.path().join("witness.toml");
    std::fs::write(&config, "lisen = \"127.0.0.1:0\"\n").unwrap();
    refused(&["check-config", "--config", path(&config)], 10, "listen");
    // Keys that others may read.
    let keys = data.join("witness.keys");
    std::fs::set_permissions(&keys, PermissionsExt::from_mode(0o644)).unwrap();
    check(with(path(&data), &[&ed25519, &ml_dsa]), 10, "0600");
    std::fs::set_permissions(&keys, PermissionsExt::from_mode(0o600)).unwrap();
    // The state is lost: never an empty one in its place.
    let state = data.join("cosigned");
    std::fs::rename(&state, dir.path().join("lost")).unwrap();
    check(with(path(&data), &[&ed25519, &ml_dsa]), 9, "sign backwards");
    assert!(!state.exists());
    std::fs::rename(dir.path().join("lost"), &state).unwrap();
    // A record that was touched.
    let branch = Branch {
        shard: 1,
        branch: 0,
    };
    let running = Running::start(&data);
    let answer = submit(&running.address, &branch.request(secret(), 0, 5)).unwrap();
    assert_eq!(answer.0, 200);
    // Nor do two processes serve one witness.
    check(with(path(&data), &[&ed25519, &ml_dsa]), 7, "in use");
    running.kill();
    let record = std::fs::read_dir(&state)
        .unwrap()
        .next()
        .unwrap()
        .unwrap()
        .path();
    let whole = std::fs::read_to_string(&record).unwrap();
    std::fs::write(&record, whole.replacen("\n5\n", "\n4\n", 1)).unwrap();
    check(with(path(&data), &[&ed25519, &ml_dsa]), 9, "damaged");
    refused(&["status", "--data-dir", path(&data)], 9, "damaged");
}

#[test]
fn it_serves_by_its_configuration_shows_what_it_cosigned_and_ends_on_a_signal() {
    let (dir, data, keys) = made();
    let vkeys = dir.path().join("logs.vkeys");
    let [ed25519, ml_dsa] = log_vkeys();
    std::fs::write(&vkeys, format!("# the broker\n{ed25519}\n\n{ml_dsa}\n")).unwrap();
    let config = dir.path().join("witness.toml");
    let settings = "listen = \"127.0.0.1:0\"\ndata-dir = \"data\"\nlog-files = [\"logs.vkeys\"]\nready-file = \"ready\"\n";
    std::fs::write(&config, settings).unwrap();
    let checked = run(&["check-config", "--config", path(&config)]);
    assert_eq!(
        text(&checked.stdout),
        "ok: witness witness.example/w1, 1 logs\n",
        "{}",
        text(&checked.stderr)
    );
    let mut child = program()
        .args(["run", "--config", path(&config)])
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    let mut stdout = BufReader::new(child.stdout.take().unwrap());
    let mut first = String::new();
    stdout.read_line(&mut first).unwrap();
    let address = first.trim().strip_prefix("listening ").unwrap().to_owned();
    let log = secret();
    let branch = Branch {
        shard: 3,
        branch: 0,
    };
    let (status, body) = submit(&address, &branch.request(log, 0, 7)).unwrap();
    assert_eq!(status, 200, "{body}");
    assert_cosigned(&keys, &branch.checkpoint(7), &body);
    let ready = std::fs::read_to_string(dir.path().join("ready")).unwrap();
    assert_eq!(ready.trim(), address);
    // Beside the running one.
    let shown = run(&["status", "--data-dir", path(&data)]);
    let shown = text(&shown.stdout);
    assert!(
        shown.contains("realm/broker/00112233445566aa/3\t7\t"),
        "{shown}"
    );
    let shown = run(&["status", "--data-dir", path(&data), "--format", "json"]);
    let shown: serde_json::Value = serde_json::from_slice(&shown.stdout).unwrap();
    assert_eq!(shown["v"], 1);
    assert_eq!(shown["cosigned"][0]["size"], 7);
    let pid = rustix::process::Pid::from_child(&child);
    rustix::process::kill_process(pid, rustix::process::Signal::TERM).unwrap();
    assert!(child.wait().unwrap().success());
}

/// What a witness signed, as its clients saw it.
#[derive(Default)]
struct Seen {
    /// Shard, size, branch.
    cosigned: Vec<(u64, u64, u64)>,
    /// Per shard the largest size that was answered.
    largest: std::collections::BTreeMap<u64, u64>,
}

/// Eight clients submit two branches of a log to one witness while it is killed, over and over. Whatever
/// it had written or not: what it cosigned lies on one branch, and never shrinks.
#[test]
fn a_witness_that_is_killed_at_any_moment_never_cosigns_backwards_or_sideways() {
    // rule: TLOG-9
    let (_dir, data, keys) = made();
    let seen = Arc::new(Mutex::new(Seen::default()));
    let mut random = 0x2545_f491_4f6c_dd1d_u64;
    let mut next = move |below: u64| {
        random ^= random << 13;
        random ^= random >> 7;
        random ^= random << 17;
        random % below
    };
    for round in 0..24_u64 {
        // Three rounds on each shard: before, at and after the parting of the branches.
        let shard = 1 + round / 3;
        let running = Running::start(&data);
        let (told, answers) = std::sync::mpsc::channel();
        let clients: Vec<_> = (0..8_u64)
            .map(|client| {
                let (address, told) = (running.address.clone(), told.clone());
                let (seen, keys) = (Arc::clone(&seen), keys.clone());
                let branch = Branch {
                    shard,
                    branch: client % 2,
                };
                std::thread::spawn(move || pursue(&address, branch, client, &seen, &keys, &told))
            })
            .collect();
        // After a number of cosignatures that is drawn, and then somewhere in the requests under way.
        for _ in 0..1 + next(6) {
            answers.recv_timeout(Duration::from_secs(60)).unwrap();
        }
        std::thread::sleep(Duration::from_micros(next(15_000)));
        running.kill();
        for client in clients {
            client.join().unwrap();
        }
    }
    let seen = seen.lock().unwrap();
    assert!(seen.cosigned.len() >= 24, "{}", seen.cosigned.len());
    for (shard, size, branch) in &seen.cosigned {
        for (other_shard, other_size, other) in &seen.cosigned {
            let parted = *size > PART && *other_size > PART;
            assert!(
                shard != other_shard || !parted || branch == other,
                "shard {shard}: branch {branch} at {size}, branch {other} at {other_size}"
            );
        }
    }
    // And what it has on record is no less than what it answered.
    let records = audit_log::witness::records(&data.join("cosigned")).unwrap();
    for (shard, largest) in &seen.largest {
        let record = records.iter().find(|record| record.shard.number == *shard);
        assert!(record.is_some_and(|record| record.size >= *largest));
    }
}

/// Submits ever larger checkpoints of a branch, and now and then a stale one, until the witness is gone.
fn pursue(
    address: &str,
    branch: Branch,
    client: u64,
    seen: &Mutex<Seen>,
    keys: &[Vkey],
    told: &std::sync::mpsc::Sender<()>,
) {
    let log = secret();
    let mut old = 0;
    for step in 0.. {
        let new = old + (step + client) % 3;
        let before = seen.lock().unwrap().largest.get(&branch.shard).copied();
        let body = branch.request(log, old, new);
        let Some((status, answer)) = submit(address, &body) else {
            return;
        };
        match status {
            200 => {
                assert_cosigned(keys, &branch.checkpoint(new), &answer);
                let mut seen = seen.lock().unwrap();
                // Nothing smaller than what was answered before this was asked.
                assert!(
                    before.is_none_or(|before| new >= before),
                    "{new} after {before:?}"
                );
                seen.cosigned.push((branch.shard, new, branch.branch));
                let largest = seen.largest.entry(branch.shard).or_default();
                *largest = new.max(*largest);
                old = new;
                // Nobody counts any more once the kill is under way.
                let _ = told.send(());
            }
            409 => {
                let size: u64 = answer.trim().parse().unwrap();
                // Of one size, and the other branch's root.
                if size == old && new == old && step % 7 == 0 {
                    old = size + 1;
                }
                // A stale size is sent once more before this one is believed.
                old = if step % 5 == 4 { old } else { size };
            }
            // The other branch won.
            422 => {}
            400 => old = 0,
            other => panic!("status {other}: {answer}"),
        }
    }
}
