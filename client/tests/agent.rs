//! The agent's socket between real processes of several users: who is served what, and within which bounds.
#![allow(missing_docs)]

use std::io::{self, Read as _, Write as _};
use std::os::unix::fs::PermissionsExt as _;
use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use client::agent::asked::AgentKeys;
use client::agent::held::JobSpec;
use client::agent::rules::Rules;
use client::agent::socket::{Doors, Jobs, Limits, Server, Socket};
use client::agent::wire::{self, Answer, MESSAGE, Request};
use client::door::{Door, Doorway, JobDataset, JobKeys, Named, Places, Token};
use client::keys::KeyError;
use client::redeem::Generated;
use futures::FutureExt as _;
use ticket_format::Context;
use ticket_format::ids::{DatasetId, NodeId};
use ticket_format::key_pair::KeyPairKind;
use ticket_format::report::exit;
use ticket_format::secret::Dek;
use ticket_format::time::Timestamp;
use tokio::net::UnixStream;

/// What is waited for comes within this time, or not at all.
const LONG: Duration = Duration::from_secs(60);
const ANN: u32 = 41_001;
const BOB: u32 = 41_002;
const EVE: u32 = 41_003;

/// Keys that tell which job they are of: every DEK begins with the user's number.
struct Told(JobSpec, NodeId);

impl JobKeys for Told {
    fn node(&self) -> &NodeId {
        &self.1
    }

    async fn datasets(&self) -> Result<Vec<JobDataset>, KeyError> {
        let names = self.0.datasets.iter().enumerate();
        let dataset = |(number, name): (usize, &String)| JobDataset {
            id: DatasetId([u8::try_from(number).unwrap(); 16]),
            name: name.clone(),
            realm: "example".to_owned(),
            recipients: false,
            created: Timestamp::from_seconds(1),
            actions: self.0.actions,
        };
        Ok(names.map(dataset).collect())
    }

    async fn dataset(&self, named: &Named) -> Result<Option<JobDataset>, KeyError> {
        let mut all = self.datasets().await?.into_iter();
        Ok(all.find(|dataset| match named {
            Named::Id(id) => dataset.id == *id,
            Named::Name(name) => dataset.name == *name,
        }))
    }

    async fn generate(
        &self,
        dataset: DatasetId,
        context: &Context,
        with_dek: bool,
        _: Option<KeyPairKind>,
    ) -> Result<Generated, KeyError> {
        let dek = self.open(dataset, &[], context).await?;
        Ok(Generated {
            wrapped: vec![1],
            dek: with_dek.then(|| (*dek).clone()),
            public: None,
        })
    }

    async fn open(&self, _: DatasetId, _: &[u8], _: &Context) -> Result<Arc<Dek>, KeyError> {
        let mut bytes = [0; 32];
        bytes[..4].copy_from_slice(&self.0.uid.to_be_bytes());
        Ok(Arc::new(Dek::from_bytes(bytes)))
    }

    async fn rewrap(
        &self,
        _: DatasetId,
        _: &[u8],
        _: &Context,
        _: &Context,
    ) -> Result<Vec<u8>, KeyError> {
        Ok(vec![2])
    }

    fn holds(&self, _: &[u8]) -> bool {
        false
    }
}

struct House;

impl Jobs for House {
    type Keys = Told;

    fn job(&self, spec: JobSpec) -> Arc<Told> {
        let node = "ec2/123456789012/eu-central-1/i-0123456789abcdef0".parse();
        Arc::new(Told(spec, node.unwrap()))
    }

    fn status(&self, of: Option<&JobSpec>) -> String {
        of.map_or("all".to_owned(), |of| of.name.clone())
    }
}

/// Doors that are counted: how many stand, and the most that stood. Where, for whom and what each was, is written down.
#[derive(Clone, Default)]
struct Counted(
    Arc<AtomicUsize>,
    Arc<AtomicUsize>,
    Arc<Mutex<Vec<(String, String)>>>,
    Arc<Places>,
);

struct Standing(
    Counted,
    #[expect(dead_code, reason = "closes with this")] Door,
);

impl Drop for Standing {
    fn drop(&mut self) {
        self.0.0.fetch_sub(1, Ordering::SeqCst);
    }
}

impl Doors for Counted {
    type Door = Standing;

    fn open<K: JobKeys>(&self, doorway: Doorway, keys: Arc<K>, uid: u32) -> io::Result<Standing> {
        let datasets = keys.datasets().now_or_never().unwrap();
        let datasets = datasets.map_err(io::Error::other)?.into_iter();
        let names: Vec<String> = datasets.map(|dataset| dataset.name).collect();
        let what = format!("{uid}:{}", names.join(","));
        let url = doorway.url().to_string();
        let door = Door::open(doorway, keys, uid, &self.3)?;
        self.2.lock().unwrap().push((url, what));
        let standing = self.0.fetch_add(1, Ordering::SeqCst) + 1;
        self.1.fetch_max(standing, Ordering::SeqCst);
        Ok(Standing(self.clone(), door))
    }
}

struct Holding(std::process::Child);

impl Drop for Holding {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

struct Scene {
    dir: tempfile::TempDir,
    doors: Counted,
    server: tokio::task::JoinHandle<io::Result<()>>,
}

impl Scene {
    async fn new(limits: Limits) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let open = std::fs::Permissions::from_mode(0o755);
        std::fs::set_permissions(dir.path(), open).unwrap();
        let rules = dir.path().join("agent.toml");
        let job = |uid: u32, datasets: &str| {
            format!(
                "[[job]]\nname = \"job-{uid}\"\nuser = {uid}\ndatasets = [{datasets}]\nactions = [\"decrypt\"]\n"
            )
        };
        let text = job(ANN, "\"faces\", \"plates\"") + &job(BOB, "\"roads\"");
        std::fs::write(&rules, text).unwrap();
        let rules = Rules::read(&rules, Path::new("/etc/passwd")).unwrap();
        // Where every user can execute it.
        std::fs::copy(env!("CARGO_BIN_EXE_postern"), dir.path().join("postern")).unwrap();
        let doors = Counted::default();
        let server = serve(dir.path(), rules, &doors, limits).await;
        Self { dir, doors, server }
    }

    /// The agent ends, and another one starts with rules that serve Ann, or nobody that is known.
    async fn restart(&mut self, served: bool) {
        self.server.abort();
        let _ = (&mut self.server).await;
        let rules = self.dir.path().join("agent.toml");
        if !served {
            let text = std::fs::read_to_string(&rules).unwrap();
            std::fs::write(&rules, text.replace(&ANN.to_string(), "41999")).unwrap();
        }
        let rules = Rules::read(&rules, Path::new("/etc/passwd")).unwrap();
        self.server = serve(self.dir.path(), rules, &self.doors, Limits::default()).await;
    }

    /// The next line of a program's, which comes within a time or not at all.
    async fn line(out: std::process::ChildStdout) -> (String, std::process::ChildStdout) {
        let read = tokio::task::spawn_blocking(move || {
            let mut reader = io::BufReader::with_capacity(1, out);
            let mut line = String::new();
            io::BufRead::read_line(&mut reader, &mut line).unwrap();
            (line, reader.into_inner())
        });
        tokio::time::timeout(LONG, read).await.unwrap().unwrap()
    }

    /// Doors that were opened: where, for whom and what.
    async fn opened(&self, count: usize) -> Vec<(String, String)> {
        let begun = Instant::now();
        loop {
            let opened = self.doors.2.lock().unwrap().clone();
            if opened.len() >= count {
                return opened;
            }
            assert!(begun.elapsed() < LONG, "waited in vain: {opened:?}");
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    }

    fn socket(&self) -> PathBuf {
        self.dir.path().join("run/agent.sock")
    }

    fn postern(&self, uid: u32, arguments: &[&str]) -> Command {
        let mut postern = Command::new(self.dir.path().join("postern"));
        postern
            .args(arguments)
            .env_clear()
            .env("PATH", "/usr/bin:/bin");
        postern
            .env("HOME", "/nonexistent")
            .env("POSTERN_AGENT", self.socket());
        postern.current_dir("/").uid(uid).gid(uid);
        postern
    }

    async fn run(&self, uid: u32, arguments: &[&str]) -> (Option<i32>, String, String) {
        let mut postern = self.postern(uid, arguments);
        let ended = tokio::task::spawn_blocking(move || postern.output());
        let Output {
            status,
            stdout,
            stderr,
        } = ended.await.unwrap().expect("this test runs as root");
        let text = |bytes| String::from_utf8(bytes).unwrap();
        (status.code(), text(stdout), text(stderr))
    }

    async fn none_stands(&self) {
        let begun = Instant::now();
        while self.doors.0.load(Ordering::SeqCst) > 0 {
            assert!(begun.elapsed() < LONG, "waited in vain: the doors close");
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    }

    /// Another user's connection, until it is dropped.
    async fn hold(&self, uid: u32) -> Holding {
        let mut python = Command::new("python3");
        python.uid(uid).gid(uid).current_dir("/").arg("-c").arg(
            "import socket, sys\n\
             s = socket.socket(socket.AF_UNIX)\n\
             s.connect(sys.argv[1])\n\
             print('connected', flush=True)\n\
             sys.stdin.read()",
        );
        python.arg(self.socket());
        python.stdin(Stdio::piped()).stdout(Stdio::piped());
        let connected = tokio::task::spawn_blocking(move || {
            let mut child = python.spawn().expect("this test runs as root");
            let mut said = [0; 10];
            let stdout = child.stdout.as_mut().unwrap();
            stdout.read_exact(&mut said).unwrap();
            Holding(child)
        });
        connected.await.unwrap()
    }

    /// Asks as another user.
    async fn ask_as(&self, uid: u32, request: &Request) -> Answer {
        let mut answers = self.ask_all_as(uid, &[request]).await;
        assert_eq!(answers.len(), 1);
        answers.remove(0)
    }

    /// Asks one thing after the other, over one connection; a socket comes with who asks for a door.
    async fn ask_all_as(&self, uid: u32, requests: &[&Request]) -> Vec<Answer> {
        let mut messages = Vec::new();
        for request in requests {
            let mut message = Vec::new();
            wire::write(&mut message, *request, LONG).await.unwrap();
            let hex: String = message.iter().map(|byte| format!("{byte:02x}")).collect();
            let sockets = matches!(request, Request::Open { .. }).then_some("+");
            messages.push(hex + sockets.unwrap_or_default());
        }
        self.send_all_as(uid, "", &messages).await
    }

    /// Sends messages in hexadecimal digits, after some Python as root; a plus stands for a socket that comes with one.
    async fn send_all_as(&self, uid: u32, before: &str, messages: &[String]) -> Vec<Answer> {
        let mut python = Command::new("python3");
        python.current_dir("/").arg("-c").arg(
            "import os, socket, sys\n\
             port = 0\n\
             exec(sys.argv[3])\n\
             os.setgid(int(sys.argv[2]))\n\
             os.setuid(int(sys.argv[2]))\n\
             s = socket.socket(socket.AF_UNIX)\n\
             s.connect(sys.argv[1])\n\
             door = socket.create_server(('127.0.0.1', port))\n\
             for part in sys.argv[4:]:\n \
                 sockets = [door.fileno()] * part.count('+')\n \
                 socket.send_fds(s, [bytes.fromhex(part.strip('+'))], sockets)\n\
             s.shutdown(socket.SHUT_WR)\n\
             print(b''.join(iter(lambda: s.recv(65536), b'')).hex())",
        );
        python.arg(self.socket()).arg(uid.to_string()).arg(before);
        python.args(messages);
        let ended = tokio::task::spawn_blocking(move || python.output());
        let said = ended.await.unwrap().expect("python3").stdout;
        let said = String::from_utf8(said).unwrap();
        let digits = said.trim().as_bytes().chunks(2);
        let bytes =
            digits.map(|two| u8::from_str_radix(std::str::from_utf8(two).unwrap(), 16).unwrap());
        let bytes: Vec<u8> = bytes.collect();
        let (mut rest, mut answers) = (&bytes[..], Vec::new());
        while let Some(answer) = wire::read(&mut rest, LONG).await.unwrap() {
            answers.push(wire::parse(&answer).unwrap());
        }
        answers
    }

    async fn ask(&self, request: &Request) -> Answer {
        let mut stream = UnixStream::connect(self.socket()).await.unwrap();
        wire::write(&mut stream, request, LONG).await.unwrap();
        let message = wire::read(&mut stream, LONG).await.unwrap().unwrap();
        wire::parse(&message).unwrap()
    }
}

async fn serve(
    dir: &Path,
    rules: Rules,
    doors: &Counted,
    limits: Limits,
) -> tokio::task::JoinHandle<io::Result<()>> {
    let socket = Socket::bind(&dir.join("run/agent.sock")).await.unwrap();
    let server = Server::new(rules, House, doors.clone(), limits);
    tokio::spawn(async move { server.serve(&socket).await })
}

#[tokio::test(flavor = "multi_thread")]
async fn each_user_has_a_door_to_his_own_datasets_and_to_no_others() {
    // rule: AGT-1, AGT-2, AGT-10
    let scene = Scene::new(Limits::default()).await;
    let show = ["sh", "-c", "echo $AWS_ENDPOINT_URL_KMS"];
    let exec = async |uid: u32, datasets: &[&str]| {
        let mut arguments = vec!["exec"];
        arguments.extend(datasets.iter().flat_map(|name| ["--dataset", name]));
        arguments.push("--");
        arguments.extend(show);
        scene.run(uid, &arguments).await
    };
    for (uid, datasets, what) in [
        (ANN, &["faces"][..], "41001:faces"),
        (ANN, &["faces", "plates"], "41001:faces,plates"),
        (BOB, &["roads"], "41002:roads"),
    ] {
        let (code, out, error) = exec(uid, datasets).await;
        assert_eq!(code, Some(0), "{error}");
        let opened = scene.doors.2.lock().unwrap().pop();
        let told = (out.trim_end().to_owned(), what.to_owned());
        assert_eq!(opened, Some(told));
    }
    for (uid, name) in [(ANN, "roads"), (BOB, "faces"), (EVE, "faces"), (0, "faces")] {
        let (code, out, error) = exec(uid, &[name]).await;
        assert_eq!((code, &*out), (Some(125), ""), "{uid} {name}");
        assert!(
            error.contains("next: ask the node's administrator"),
            "{error}"
        );
    }
    scene.none_stands().await;
}

/// How `postern exec` ends whose program ends with `code` on a signal.
async fn signalled(scene: &Scene, signal: rustix::process::Signal, code: i32) -> Option<i32> {
    let number = signal.as_raw();
    let script = format!("trap 'exit {code}' {number}; echo ready; while :; do sleep 0.05; done");
    let mut waiting = scene.postern(
        ANN,
        &["exec", "--dataset", "faces", "--", "sh", "-c", &script],
    );
    let mut waiting = waiting
        .stdout(std::process::Stdio::piped())
        .spawn()
        .unwrap();
    let mut ready = [0; 6];
    waiting
        .stdout
        .as_mut()
        .unwrap()
        .read_exact(&mut ready)
        .unwrap();
    assert_eq!(scene.doors.0.load(Ordering::SeqCst), 1);
    let pid = rustix::process::Pid::from_raw(i32::try_from(waiting.id()).unwrap()).unwrap();
    rustix::process::kill_process(pid, signal).unwrap();
    let ended = tokio::task::spawn_blocking(move || waiting.wait()).await;
    ended.unwrap().unwrap().code()
}

#[tokio::test(flavor = "multi_thread")]
async fn the_programs_end_is_that_of_the_command() {
    let scene = Scene::new(Limits::default()).await;
    let exec = async |command: &[&str]| {
        let arguments = [&["exec", "--dataset", "faces", "--"][..], command].concat();
        scene.run(ANN, &arguments).await.0
    };
    assert_eq!(exec(&["sh", "-c", "exit 7"]).await, Some(7));
    assert_eq!(exec(&["sh", "-c", "kill -9 $$"]).await, Some(137));
    assert_eq!(exec(&["/nonexistent"]).await, Some(127));
    assert_eq!(exec(&["/etc/passwd"]).await, Some(126));
    let nowhere = [
        "exec",
        "--agent",
        "/nonexistent/a",
        "--dataset",
        "d",
        "--",
        "true",
    ];
    let (code, _, error) = scene.run(ANN, &nowhere).await;
    assert_eq!(code, Some(125));
    assert!(
        error.contains("no agent listens") && error.contains("next: "),
        "{error}"
    );
    // A signal goes on to the program, whose end it then is.
    use rustix::process::Signal;
    for (at, signal) in [
        Signal::TERM,
        Signal::HUP,
        Signal::INT,
        Signal::QUIT,
        Signal::USR1,
        Signal::USR2,
    ]
    .into_iter()
    .enumerate()
    {
        let at = 60 + i32::try_from(at).unwrap();
        let ended = signalled(&scene, signal, at).await;
        assert_eq!(ended, Some(at), "{signal:?}");
    }
    scene.none_stands().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn rubbish_and_halves_of_messages_end_the_connection() {
    // rule: AGT-9
    let silence = Duration::from_millis(300);
    let scene = Scene::new(Limits {
        silence,
        ..Limits::default()
    })
    .await;
    let end = async |bytes: Vec<u8>| {
        let path = scene.socket();
        let said = tokio::task::spawn_blocking(move || {
            let mut stream = std::os::unix::net::UnixStream::connect(path).unwrap();
            stream.set_read_timeout(Some(LONG)).unwrap();
            stream.write_all(&bytes).unwrap();
            let mut said = Vec::new();
            // Bytes that nobody read reset the connection after the answer.
            let ended = stream.read_to_end(&mut said);
            let late = ended.is_err_and(|error| error.kind() == io::ErrorKind::WouldBlock);
            assert!(!late, "the connection did not end");
            said
        });
        said.await.unwrap()
    };
    let too_long = u32::try_from(MESSAGE + 1).unwrap().to_be_bytes();
    for rubbish in [
        vec![0, 0, 0, 1, 0xff],
        vec![0, 0, 0, 0],
        too_long.to_vec(),
        // Status, and a byte more.
        vec![0, 0, 0, 4, 0xa1, 1, 4, 0],
    ] {
        let said = end(rubbish.clone()).await;
        let answer = wire::parse(&said[4..]).unwrap();
        assert!(
            matches!(answer, Answer::Failed(report) if report.exit == exit::USAGE),
            "{rubbish:?}"
        );
    }
    assert!(end(vec![0, 0]).await.is_empty());
    assert!(end(vec![0, 0, 0, 9, 1]).await.is_empty());
    // Root is told of all; one whom no table names, of nothing else.
    let told = scene.ask(&Request::Status).await;
    assert!(matches!(told, Answer::Status(text) if text == "all"));
}

#[tokio::test(flavor = "multi_thread")]
async fn one_user_has_so_many_connections_and_no_more() {
    // rule: AGT-9
    let scene = Scene::new(Limits {
        of_user: 2,
        ..Limits::default()
    })
    .await;
    let status = async |stream: &mut UnixStream| {
        wire::write(stream, &Request::Status, LONG).await?;
        wire::read(stream, LONG).await
    };
    let connect = || UnixStream::connect(scene.socket());
    let mut first = connect().await.unwrap();
    let mut second = connect().await.unwrap();
    assert!(status(&mut first).await.unwrap().is_some());
    assert!(status(&mut second).await.unwrap().is_some());
    let mut third = connect().await.unwrap();
    assert!(!status(&mut third).await.is_ok_and(|said| said.is_some()));
    // Another user has his own.
    let arguments = ["exec", "--dataset", "roads", "--", "true"];
    assert_eq!(scene.run(BOB, &arguments).await.0, Some(0));
    drop(first);
    let begun = Instant::now();
    loop {
        let mut again = connect().await.unwrap();
        if status(&mut again).await.is_ok_and(|said| said.is_some()) {
            break;
        }
        assert!(begun.elapsed() < LONG, "waited in vain: a place is free");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn all_have_so_many_connections_and_no_more() {
    // rule: AGT-9
    let scene = Scene::new(Limits {
        all: 2,
        ..Limits::default()
    })
    .await;
    let ann = scene.hold(ANN).await;
    let bob = scene.hold(BOB).await;
    assert_eq!(scene.ask_all_as(ANN, &[&Request::Status]).await.len(), 0);
    drop(ann);
    let begun = Instant::now();
    while scene.ask_all_as(ANN, &[&Request::Status]).await.is_empty() {
        assert!(begun.elapsed() < LONG, "waited in vain: a place is free");
    }
    drop(bob);
}

#[tokio::test(flavor = "multi_thread")]
async fn whom_no_table_serves_share_the_places_of_one_user() {
    // rule: AGT-9
    let scene = Scene::new(Limits {
        of_user: 2,
        ..Limits::default()
    })
    .await;
    let strangers = [scene.hold(EVE).await, scene.hold(EVE + 1).await];
    assert_eq!(
        scene.ask_all_as(EVE + 2, &[&Request::Status]).await.len(),
        0
    );
    assert_eq!(scene.ask_all_as(ANN, &[&Request::Status]).await.len(), 1);
    drop(strangers);
}

#[tokio::test(flavor = "multi_thread")]
async fn data_keys_and_status_are_the_callers_own() {
    // rule: AGT-1, AGT-3, AGT-10
    let scene = Scene::new(Limits::default()).await;
    let redeem = |dataset: &str| Request::Redeem {
        dataset: dataset.to_owned(),
        items: vec![(Context::default(), vec![1]); 2],
    };
    let generate = |dataset: &str, with_dek| Request::Generate {
        dataset: dataset.to_owned(),
        context: Context::default(),
        with_dek,
        pair: None,
    };
    let of = |uid: u32| {
        move |dek: &[u8; 32]| u32::from_be_bytes(*dek.first_chunk::<4>().unwrap()) == uid
    };
    let Answer::Opened(opened) = scene.ask_as(ANN, &redeem("plates")).await else {
        panic!("no keys")
    };
    assert_eq!(opened.len(), 2);
    assert!(
        opened
            .iter()
            .all(|dek| dek.as_ref().is_ok_and(|dek| of(ANN)(dek)))
    );
    let answer = scene
        .ask_as(ANN, &Request::Dataset("plates".to_owned()))
        .await;
    let is = |id: &DatasetId, realm: &str| (id.0, realm) == ([1; 16], "example");
    assert!(
        matches!(&answer, Answer::Dataset { id, realm, .. } if is(id, realm)),
        "{answer:?}"
    );
    for with_dek in [true, false] {
        let answer = scene.ask_as(BOB, &generate("roads", with_dek)).await;
        let Answer::Key { wrapped, dek, .. } = answer else {
            panic!("no key")
        };
        assert_eq!(wrapped, vec![1]);
        assert_eq!(dek.is_some_and(|dek| of(BOB)(&dek)), with_dek);
    }
    let name = |uid: u32| format!("job-{uid}");
    for uid in [ANN, BOB] {
        let told = scene.ask_as(uid, &Request::Status).await;
        assert!(matches!(told, Answer::Status(text) if text == name(uid)));
    }
    for (uid, request) in [
        (ANN, redeem("roads")),
        (BOB, generate("faces", true)),
        (EVE, redeem("faces")),
        (EVE, Request::Status),
        (ANN, Request::Dataset("roads".to_owned())),
        (EVE, Request::Dataset("faces".to_owned())),
    ] {
        let answer = scene.ask_as(uid, &request).await;
        let refused = matches!(&answer, Answer::Failed(report) if report.exit == exit::REFUSED);
        assert!(refused, "{uid} {request:?}: {answer:?}");
    }
}

fn open(names: &[&str]) -> Request {
    Request::Open {
        datasets: names.iter().map(|name| (*name).to_owned()).collect(),
        token: Token::from_bytes([7; Token::LEN]),
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn another_door_closes_the_one_before() {
    // rule: AGT-10
    let scene = Scene::new(Limits::default()).await;
    let names = ["faces", "plates", "faces", "plates"];
    let asked = names.map(|name| open(&[name]));
    let asked: Vec<&Request> = asked.iter().collect();
    let answers = scene.ask_all_as(ANN, &asked).await;
    assert_eq!(answers.len(), asked.len());
    for (answer, name) in answers.iter().zip(names) {
        assert!(matches!(answer, Answer::Open), "{answer:?}");
        let (_, what) = scene.doors.2.lock().unwrap().remove(0);
        assert_eq!(what, format!("{ANN}:{name}"));
    }
    // The new one is there before the old one goes.
    assert_eq!(scene.doors.1.load(Ordering::SeqCst), 2);
    scene.none_stands().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn who_is_served_nothing_is_answered_once_and_keeps_no_place() {
    // rule: AGT-9
    let silence = Duration::from_millis(300);
    let scene = Scene::new(Limits {
        silence,
        ..Limits::default()
    })
    .await;
    // With a question, and without a word: nobody of them ends the connection but the agent.
    let mut status = Vec::new();
    wire::write(&mut status, &Request::Status, LONG)
        .await
        .unwrap();
    let status: String = status.iter().map(|byte| format!("{byte:02x}")).collect();
    for (said, answered) in [(status.as_str(), "True\n"), ("", "False\n")] {
        let mut python = Command::new("python3");
        python.uid(EVE).gid(EVE).current_dir("/").arg("-c").arg(
            "import socket, sys\n\
             s = socket.socket(socket.AF_UNIX)\n\
             s.settimeout(60)\n\
             s.connect(sys.argv[1])\n\
             s.sendall(bytes.fromhex(sys.argv[2]))\n\
             print(b''.join(iter(lambda: s.recv(65536), b'')) != b'')",
        );
        python.arg(scene.socket()).arg(said);
        let ended = tokio::task::spawn_blocking(move || python.output());
        let out = ended.await.unwrap().unwrap().stdout;
        assert_eq!(String::from_utf8(out).unwrap(), answered);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_program_reaches_its_door_without_a_proxy() {
    // rule: AGT-12
    let scene = Scene::new(Limits::default()).await;
    let script = "echo $NO_PROXY $no_proxy $AWS_IGNORE_CONFIGURED_ENDPOINT_URLS";
    let mut program = scene.postern(
        ANN,
        &["exec", "--dataset", "faces", "--", "sh", "-c", script],
    );
    program
        .env("NO_PROXY", "internal")
        .env("AWS_IGNORE_CONFIGURED_ENDPOINT_URLS", "true");
    let ended = tokio::task::spawn_blocking(move || program.output());
    let said = String::from_utf8(ended.await.unwrap().unwrap().stdout).unwrap();
    let own = "127.0.0.1,localhost";
    assert_eq!(said, format!("internal,{own} {own} false\n"));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_program_goes_on_when_the_agent_is_restarted_and_ends_when_that_one_refuses() {
    // rule: AGT-12
    let mut scene = Scene::new(Limits::default()).await;
    // Asked to end it does so itself, which is heard in what it says.
    let script =
        "trap 'echo asked; exit' TERM; echo $AWS_ENDPOINT_URL_KMS; while :; do sleep 1; done";
    let mut program = scene.postern(
        ANN,
        &["exec", "--dataset", "faces", "--", "sh", "-c", script],
    );
    program
        .stdout(std::process::Stdio::piped())
        .stderr(std::process::Stdio::piped());
    let mut program = program.spawn().unwrap();
    let (url, mut out) = Scene::line(program.stdout.take().unwrap()).await;
    for restarts in 1..=3 {
        scene.restart(true).await;
        // The same door, for the same job, at the same place.
        let opened = scene.opened(restarts + 1).await;
        let what = format!("{ANN}:faces");
        let same = (url.trim_end().to_owned(), what);
        assert!(opened.iter().all(|door| *door == same), "{opened:?}");
    }
    assert!(program.try_wait().unwrap().is_none());
    scene.restart(false).await;
    let ended = tokio::task::spawn_blocking(move || program.wait_with_output());
    let ended = tokio::time::timeout(LONG, ended).await.unwrap();
    let ended = ended.unwrap().unwrap();
    assert_eq!(ended.status.code(), Some(125));
    let mut rest = String::new();
    std::io::Read::read_to_string(&mut out, &mut rest).unwrap();
    assert_eq!(rest, "asked\n");
    let said = String::from_utf8(ended.stderr).unwrap();
    for what in [
        "the agent has ended",
        "the agent is back",
        "its door stays shut",
        "serves this user and unit nothing",
        "next: ask the node's administrator",
    ] {
        assert!(said.contains(what), "{what}: {said}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn the_programs_port_stays_its_own_when_exec_is_killed() {
    // rule: AGT-12
    let scene = Scene::new(Limits::default()).await;
    let script = "echo $AWS_ENDPOINT_URL_KMS; exec sleep 600";
    let mut exec = scene.postern(
        ANN,
        &["exec", "--dataset", "faces", "--", "sh", "-c", script],
    );
    let mut exec = exec.stdout(std::process::Stdio::piped()).spawn().unwrap();
    let (url, out) = Scene::line(exec.stdout.take().unwrap()).await;
    let address: std::net::SocketAddr = url
        .strip_prefix("http://")
        .and_then(|url| url.split('/').next()?.parse().ok())
        .unwrap();
    let children = format!("/proc/{0}/task/{0}/children", exec.id());
    let child: i32 = std::fs::read_to_string(children)
        .unwrap()
        .trim()
        .parse()
        .unwrap();
    exec.kill().unwrap();
    exec.wait().unwrap();
    scene.none_stands().await;
    // The agent may have its copy of the socket for a moment yet; the program has one that stays.
    let of = |inode: &str| format!("socket:[{inode}]");
    let sockets = std::fs::read_to_string("/proc/net/tcp").unwrap();
    let listening = sockets.lines().find_map(|line| {
        let fields: Vec<&str> = line.split_whitespace().collect();
        let here = format!("0100007F:{:04X}", address.port());
        (fields[1] == here && fields[3] == "0A").then(|| of(fields[9]))
    });
    let mut held = std::fs::read_dir(format!("/proc/{child}/fd")).unwrap();
    assert!(held.any(|entry| {
        let link = std::fs::read_link(entry.unwrap().path()).unwrap();
        link.to_str() == listening.as_deref()
    }));
    let bound = std::net::TcpListener::bind(address);
    assert_eq!(bound.unwrap_err().kind(), io::ErrorKind::AddrInUse);
    let pid = rustix::process::Pid::from_raw(child).unwrap();
    rustix::process::kill_process(pid, rustix::process::Signal::KILL).unwrap();
    drop(out);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_door_is_opened_at_the_one_socket_that_came_with_the_request() {
    // rule: AGT-9, AGT-10
    let scene = Scene::new(Limits::default()).await;
    let mut message = Vec::new();
    wire::write(&mut message, &open(&["faces"]), LONG)
        .await
        .unwrap();
    let hex: String = message.iter().map(|byte| format!("{byte:02x}")).collect();
    let answers = scene.send_all_as(ANN, "", &[format!("{hex}+")]).await;
    assert!(matches!(answers[..], [Answer::Open]), "{answers:?}");
    for (sockets, refused) in [("", "did not come"), ("++", "not asked anything it knows")] {
        let answers = scene
            .send_all_as(ANN, "", &[format!("{hex}{sockets}")])
            .await;
        let [Answer::Failed(report)] = &answers[..] else {
            panic!("{answers:?}")
        };
        assert!(report.to_string().contains(refused), "{report}");
    }
    // One at an address of another network namespace: the same address is nobody's here, or another's.
    let another = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    for port in [0, another.local_addr().unwrap().port()] {
        let away = format!(
            "port = {port}; import ctypes; assert ctypes.CDLL(None).unshare(0x40000000) == 0"
        );
        let answers = scene.send_all_as(ANN, &away, &[format!("{hex}+")]).await;
        let [Answer::Failed(report)] = &answers[..] else {
            panic!("{answers:?}")
        };
        assert!(report.to_string().contains("network namespace"), "{report}");
    }
    assert_eq!(scene.opened(1).await.len(), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_late_answer_is_not_taken_for_the_next_requests() {
    // rule: AGT-11
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("agent.sock");
    let listener = tokio::net::UnixListener::bind(&path).unwrap();
    let (late, mut asked_again) = tokio::sync::mpsc::channel::<()>(1);
    tokio::spawn(async move {
        let (mut stream, _) = listener.accept().await.unwrap();
        let known = Answer::Dataset {
            id: DatasetId([1; 16]),
            realm: "example".to_owned(),
            recipients: false,
        };
        wire::read(&mut stream, LONG).await.unwrap();
        wire::write(&mut stream, &known, LONG).await.unwrap();
        wire::read(&mut stream, LONG).await.unwrap();
        asked_again.recv().await;
        let key = |byte| Answer::Key {
            wrapped: vec![byte],
            dek: None,
            public: None,
        };
        for byte in [1, 2] {
            let _ = wire::write(&mut stream, &key(byte), LONG).await;
        }
        std::future::pending::<()>().await;
    });
    let wait = Duration::from_millis(300);
    let keys = AgentKeys::of(&path, "faces", wait).await.unwrap();
    let context = Context::default();
    assert!(keys.make(&context, false, None).await.is_err());
    late.send(()).await.unwrap();
    // Whatever comes now is the first one's.
    assert!(keys.make(&context, false, None).await.is_err());
}
