//! The agent's socket between real processes of several users: who is served what, and within which bounds.
#![allow(missing_docs)]

use std::io::{self, Read as _, Write as _};
use std::os::unix::fs::PermissionsExt as _;
use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use client::agent::asked::AgentKeys;
use client::agent::held::JobSpec;
use client::agent::rules::Rules;
use client::agent::socket::{Doors, Jobs, Limits, Server, Socket};
use client::agent::wire::{self, Answer, MESSAGE, Request};
use client::door::{JobDataset, JobKeys, Named};
use client::keys::KeyError;
use client::redeem::Generated;
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

/// Doors whose URL says for whom and what they are; how many stand is counted, and the most that stood.
#[derive(Clone, Default)]
struct Counted(Arc<AtomicUsize>, Arc<AtomicUsize>);

struct Standing(Counted);

impl Drop for Standing {
    fn drop(&mut self) {
        self.0.0.fetch_sub(1, Ordering::SeqCst);
    }
}

impl Doors for Counted {
    type Door = Standing;

    async fn open<K: JobKeys>(&self, keys: Arc<K>, uid: u32) -> io::Result<(Standing, String)> {
        let standing = self.0.fetch_add(1, Ordering::SeqCst) + 1;
        self.1.fetch_max(standing, Ordering::SeqCst);
        let datasets = keys.datasets().await.map_err(io::Error::other)?;
        let names: Vec<String> = datasets.into_iter().map(|dataset| dataset.name).collect();
        let url = format!("door:{uid}:{}", names.join(","));
        Ok((Standing(self.clone()), url))
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
        let socket = Socket::bind(&dir.path().join("run/agent.sock"))
            .await
            .unwrap();
        let server = Server::new(rules, House, doors.clone(), limits);
        let server = tokio::spawn(async move { server.serve(&socket).await });
        Self { dir, doors, server }
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

    /// Asks one thing after the other, over one connection.
    async fn ask_all_as(&self, uid: u32, requests: &[&Request]) -> Vec<Answer> {
        let mut message = Vec::new();
        for request in requests {
            wire::write(&mut message, *request, LONG).await.unwrap();
        }
        let mut python = Command::new("python3");
        python.uid(uid).gid(uid).current_dir("/").arg("-c").arg(
            "import socket, sys\n\
             s = socket.socket(socket.AF_UNIX)\n\
             s.connect(sys.argv[1])\n\
             s.sendall(bytes.fromhex(sys.argv[2]))\n\
             s.shutdown(socket.SHUT_WR)\n\
             print(b''.join(iter(lambda: s.recv(65536), b'')).hex())",
        );
        let hex: String = message.iter().map(|byte| format!("{byte:02x}")).collect();
        python.arg(self.socket()).arg(hex);
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
    let (code, out, error) = exec(ANN, &["faces"]).await;
    assert_eq!((code, &*out), (Some(0), "door:41001:faces\n"), "{error}");
    let (_, out, _) = exec(ANN, &["faces", "plates"]).await;
    assert_eq!(out, "door:41001:faces,plates\n");
    let (_, out, _) = exec(BOB, &["roads"]).await;
    assert_eq!(out, "door:41002:roads\n");
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

#[tokio::test(flavor = "multi_thread")]
async fn another_door_closes_the_one_before() {
    // rule: AGT-10
    let scene = Scene::new(Limits::default()).await;
    let open = |name: &str| Request::Open(vec![name.to_owned()]);
    let (faces, plates) = (open("faces"), open("plates"));
    let asked = [&faces, &plates, &faces, &plates];
    let answers = scene.ask_all_as(ANN, &asked).await;
    assert_eq!(answers.len(), asked.len());
    for (answer, name) in answers.iter().zip(["faces", "plates", "faces", "plates"]) {
        assert!(
            matches!(answer, Answer::Door(url) if url.ends_with(name)),
            "{answer:?}"
        );
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
async fn a_program_reaches_its_door_without_a_proxy_and_ends_with_it() {
    // rule: AGT-12
    let scene = Scene::new(Limits::default()).await;
    let script = "echo $NO_PROXY $no_proxy $AWS_IGNORE_CONFIGURED_ENDPOINT_URLS; exec sleep 600";
    let mut program = scene.postern(
        ANN,
        &["exec", "--dataset", "faces", "--", "sh", "-c", script],
    );
    program
        .env("NO_PROXY", "internal")
        .env("AWS_IGNORE_CONFIGURED_ENDPOINT_URLS", "true")
        .stdout(std::process::Stdio::piped())
        .stderr(std::process::Stdio::piped());
    let mut program = program.spawn().unwrap();
    let mut line = String::new();
    let out = program.stdout.take().unwrap();
    io::BufRead::read_line(&mut io::BufReader::new(out), &mut line).unwrap();
    let own = "127.0.0.1,localhost";
    assert_eq!(line, format!("internal,{own} {own} false\n"));
    // The agent ends: the port is anybody's from now on.
    scene.server.abort();
    let ended = tokio::task::spawn_blocking(move || program.wait_with_output());
    let ended = ended.await.unwrap().unwrap();
    assert_eq!(ended.status.code(), Some(125));
    let said = String::from_utf8(ended.stderr).unwrap();
    assert!(said.contains("its door is shut"), "{said}");
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
