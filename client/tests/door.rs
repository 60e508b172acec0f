//! The door by itself, before keys that say what they were asked: which dataset, for what, and by whom.
#![allow(missing_docs)]

use std::io::{Read as _, Write as _};
use std::net::{TcpListener, TcpStream, UdpSocket};
use std::os::fd::{AsFd as _, OwnedFd};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use client::agent::narrow::Narrow;
use client::door::blob::Blob;
use client::door::{Door, Doorway, JobDataset, JobKeys, Named, Places, Token};
use client::keys::KeyError;
use client::redeem::Generated;
use serde_json::{Value, json};
use ticket_format::Context;
use ticket_format::cbor::Writer;
use ticket_format::ids::{DatasetId, NodeId};
use ticket_format::key_pair::KeyPairKind;
use ticket_format::secret::Dek;
use ticket_format::ticket::{Action, Actions};
use ticket_format::time::Timestamp;

/// What is waited for comes within this time, or not at all.
const LONG: Duration = Duration::from_secs(60);
const FACES: DatasetId = DatasetId([1; 16]);
const ROADS: DatasetId = DatasetId([2; 16]);
const OTHER: DatasetId = DatasetId([3; 16]);

/// Keys to two datasets, each for what it is said to be for.
struct Two {
    node: NodeId,
    faces: Actions,
    roads: Actions,
    asked: Mutex<Vec<&'static str>>,
}

fn two(faces: &[Action], roads: &[Action]) -> Arc<Two> {
    let node = "ec2/123456789012/eu-central-1/i-0123456789abcdef0".parse();
    Arc::new(Two {
        node: node.unwrap(),
        faces: Actions::new(faces).unwrap(),
        roads: Actions::new(roads).unwrap(),
        asked: Mutex::default(),
    })
}

/// A wrap of a dataset, as far as anybody but a key server looks.
fn wrapped(dataset: DatasetId) -> Vec<u8> {
    let mut writer = Writer::new();
    writer.array(9).uint(1).uint(1).bytes(&dataset.0);
    writer.bytes(&[2; 16]).uint(1).bytes(&[3; 16]);
    writer.uint(0).bytes(&[4; 24]).bytes(&[5; 48]);
    writer.into_bytes()
}

fn blob(dataset: DatasetId) -> String {
    let blob = Blob {
        dataset,
        wrapped: wrapped(dataset),
        form: "data-key/32".to_owned(),
        sealed: None,
    };
    STANDARD.encode(blob.to_bytes())
}

impl Two {
    fn asks(&self, what: &'static str) {
        self.asked.lock().unwrap().push(what);
    }

    fn asked(&self) -> Vec<&'static str> {
        std::mem::take(&mut *self.asked.lock().unwrap())
    }
}

impl JobKeys for Two {
    fn node(&self) -> &NodeId {
        &self.node
    }

    async fn datasets(&self) -> Result<Vec<JobDataset>, KeyError> {
        let dataset = |id, name: &str, actions| JobDataset {
            id,
            name: name.to_owned(),
            realm: "example".to_owned(),
            recipients: false,
            created: Timestamp::from_seconds(1),
            actions,
        };
        Ok(vec![
            dataset(FACES, "faces", self.faces),
            dataset(ROADS, "roads", self.roads),
        ])
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
        _: &Context,
        with_dek: bool,
        _: Option<KeyPairKind>,
    ) -> Result<Generated, KeyError> {
        self.asks("generate");
        Ok(Generated {
            wrapped: wrapped(dataset),
            dek: with_dek.then(|| Dek::from_bytes([7; 32])),
            public: None,
        })
    }

    async fn open(&self, _: DatasetId, _: &[u8], _: &Context) -> Result<Arc<Dek>, KeyError> {
        self.asks("open");
        Ok(Arc::new(Dek::from_bytes([7; 32])))
    }

    async fn rewrap(
        &self,
        dataset: DatasetId,
        _: &[u8],
        _: &Context,
        _: &Context,
    ) -> Result<Vec<u8>, KeyError> {
        self.asks("rewrap");
        Ok(wrapped(dataset))
    }

    fn holds(&self, ticket: &[u8]) -> bool {
        ticket == b"held"
    }
}

/// A door that this process has opened, and where.
struct At {
    url: String,
    _door: Door,
}

async fn open<K: JobKeys>(keys: &Arc<K>) -> At {
    let uid = rustix::process::geteuid().as_raw();
    let doorway = Doorway::make().unwrap();
    At {
        url: doorway.url().to_string(),
        _door: Door::open(doorway, Arc::clone(keys), uid, &Places::default()).unwrap(),
    }
}

/// Status and the answer, or the error's name.
async fn ask(door: &At, operation: &str, body: Value) -> Result<Value, String> {
    let url = door.url.strip_prefix("http://").unwrap();
    let (host, path) = url.split_once('/').unwrap();
    let body = body.to_string();
    let request = format!(
        "POST /{path} HTTP/1.1\r\nHost: {host}\r\nX-Amz-Target: TrentService.{operation}\r\n\
         Connection: close\r\nContent-Length: {}\r\n\r\n{body}",
        body.len()
    );
    let host = host.to_owned();
    let said = tokio::task::spawn_blocking(move || {
        let mut stream = TcpStream::connect(host).unwrap();
        stream.set_read_timeout(Some(LONG)).unwrap();
        stream.write_all(request.as_bytes()).unwrap();
        let mut said = String::new();
        stream.read_to_string(&mut said).unwrap();
        said
    });
    let said = said.await.unwrap();
    let (head, body) = said.split_once("\r\n\r\n").unwrap();
    let body: Value = serde_json::from_str(body).unwrap();
    match head.starts_with("HTTP/1.1 200 ") {
        true => Ok(body),
        false => Err(body["__type"].as_str().unwrap().to_owned()),
    }
}

fn refused<T>(kind: &str) -> Result<T, String> {
    Err(kind.to_owned())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_key_that_is_named_is_the_ciphertexts() {
    // rule: DOOR-5, DOOR-8
    let keys = two(&[Action::Decrypt], &[Action::Decrypt]);
    let door = open(&keys).await;
    let of = |dataset, key: Option<&str>| match key {
        Some(key) => json!({ "CiphertextBlob": blob(dataset), "KeyId": key }),
        None => json!({ "CiphertextBlob": blob(dataset) }),
    };
    for key in [None, Some("alias/faces")] {
        let opened = ask(&door, "Decrypt", of(FACES, key)).await.unwrap();
        assert_eq!(opened["Plaintext"], STANDARD.encode([7; 32]));
    }
    keys.asked();
    let wrong = ask(&door, "Decrypt", of(FACES, Some("alias/roads"))).await;
    assert_eq!(wrong, refused("IncorrectKeyException"));
    let none = ask(&door, "Decrypt", of(OTHER, None)).await;
    assert_eq!(none, refused("NotFoundException"));
    let source = json!({ "CiphertextBlob": blob(FACES), "SourceKeyId": "alias/roads", "DestinationKeyId": "alias/faces" });
    let wrong = ask(&door, "ReEncrypt", source).await;
    assert_eq!(wrong, refused("IncorrectKeyException"));
    assert!(keys.asked().is_empty());
}

#[tokio::test(flavor = "multi_thread")]
async fn each_operation_wants_its_action() {
    // rule: AGT-3, DOOR-4
    let all = [Action::Decrypt, Action::Encrypt, Action::Rewrap];
    let generate = json!({ "KeyId": "alias/faces", "KeySpec": "AES_256" });
    let pair = json!({ "KeyId": "alias/faces", "KeyPairSpec": "ECC_NIST_P256" });
    let encrypt = json!({ "KeyId": "alias/faces", "Plaintext": "AAAA" });
    let decrypt = json!({ "CiphertextBlob": blob(FACES) });
    let again = json!({ "CiphertextBlob": blob(FACES), "DestinationKeyId": "alias/faces" });
    let moved = json!({ "CiphertextBlob": blob(FACES), "DestinationKeyId": "alias/roads" });
    for (operation, body, faces, roads) in [
        ("GenerateDataKey", &generate, Action::Encrypt, None),
        (
            "GenerateDataKeyWithoutPlaintext",
            &generate,
            Action::Encrypt,
            None,
        ),
        ("GenerateDataKeyPair", &pair, Action::Encrypt, None),
        (
            "GenerateDataKeyPairWithoutPlaintext",
            &pair,
            Action::Encrypt,
            None,
        ),
        ("Encrypt", &encrypt, Action::Encrypt, None),
        ("Decrypt", &decrypt, Action::Decrypt, None),
        ("ReEncrypt", &again, Action::Rewrap, None),
        ("ReEncrypt", &moved, Action::Decrypt, Some(Action::Encrypt)),
    ] {
        let but = |one: Action| all.into_iter().filter(move |action| *action != one);
        let without: Vec<Action> = but(faces).collect();
        let mut cases = vec![two(&without, &all)];
        if let Some(roads) = roads {
            cases.push(two(&all, &but(roads).collect::<Vec<_>>()));
        }
        for keys in cases {
            let said = ask(&open(&keys).await, operation, body.clone()).await;
            assert_eq!(said, refused("AccessDeniedException"), "{operation}");
            assert!(keys.asked().is_empty(), "{operation}");
        }
        let keys = two(&[faces], &[roads.unwrap_or(faces)]);
        let _ = ask(&open(&keys).await, operation, body.clone()).await;
        assert!(!keys.asked().is_empty(), "{operation}");
        // One that is only tried is asked of nobody.
        let mut tried = body.clone();
        tried["DryRun"] = true.into();
        let said = ask(&open(&keys).await, operation, tried).await;
        assert_eq!(said, refused("DryRunOperationException"), "{operation}");
        assert!(keys.asked().is_empty(), "{operation}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_member_that_an_operation_does_not_have_in_kms_is_refused() {
    // rule: DOOR-4
    let keys = two(&[Action::Decrypt], &[Action::Decrypt]);
    let door = open(&keys).await;
    let held = STANDARD.encode(b"held");
    for (operation, usual, has_grant_tokens) in [
        ("GenerateRandom", json!({ "NumberOfBytes": 8 }), false),
        ("ListKeys", json!({}), false),
        ("ListAliases", json!({}), false),
        ("DescribeKey", json!({ "KeyId": "alias/faces" }), true),
    ] {
        assert!(ask(&door, operation, usual.clone()).await.is_ok());
        let mut tried = usual.clone();
        tried["DryRun"] = true.into();
        let said = ask(&door, operation, tried).await;
        assert_eq!(said, refused("ValidationException"), "{operation}");
        let mut granted = usual;
        granted["GrantTokens"] = json!([held]);
        let said = ask(&door, operation, granted).await;
        assert_eq!(said.is_ok(), has_grant_tokens, "{operation}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_door_for_one_dataset_does_not_open_the_jobs_other_one() {
    // rule: AGT-10
    let keys = two(&[Action::Decrypt], &[Action::Decrypt]);
    let narrow = Arc::new(Narrow::new(Arc::clone(&keys), vec!["faces".to_owned()]));
    let door = open(&narrow).await;
    let listed = ask(&door, "ListAliases", json!({})).await.unwrap();
    assert_eq!(listed["Aliases"].as_array().unwrap().len(), 1);
    assert_eq!(listed["Aliases"][0]["AliasName"], "alias/faces");
    let decrypt =
        async |dataset| ask(&door, "Decrypt", json!({ "CiphertextBlob": blob(dataset) })).await;
    assert!(decrypt(FACES).await.is_ok());
    keys.asked();
    assert_eq!(decrypt(ROADS).await, refused("NotFoundException"));
    let context = Context::default();
    let wrap = wrapped(ROADS);
    assert!(narrow.open(ROADS, &wrap, &context).await.is_err());
    assert!(narrow.generate(ROADS, &context, true, None).await.is_err());
    assert!(
        narrow
            .rewrap(ROADS, &wrap, &context, &context)
            .await
            .is_err()
    );
    assert!(keys.asked().is_empty());
}

#[tokio::test(flavor = "multi_thread")]
async fn every_grant_token_is_a_ticket_that_is_held() {
    // rule: DOOR-10
    let keys = two(&[Action::Decrypt], &[Action::Decrypt]);
    let door = open(&keys).await;
    let with = async |tokens: Value| {
        let body = json!({ "CiphertextBlob": blob(FACES), "GrantTokens": tokens });
        ask(&door, "Decrypt", body).await
    };
    let (held, none) = (STANDARD.encode(b"held"), STANDARD.encode(b"none"));
    assert!(with(json!([])).await.is_ok());
    assert!(with(json!([held])).await.is_ok());
    keys.asked();
    for tokens in [json!([none]), json!([held, none]), json!(["?"])] {
        assert_eq!(with(tokens).await, refused("InvalidGrantTokenException"));
    }
    assert_eq!(
        with(json!(vec![held; 11])).await,
        refused("ValidationException")
    );
    assert!(keys.asked().is_empty());
}

#[test]
fn a_door_stands_on_a_socket_that_listens_on_loopback_and_on_nothing_else() {
    // rule: AGT-10
    let token = || Token::from_bytes([7; Token::LEN]);
    let handed = |socket: OwnedFd| Doorway::handed(socket, token());
    let listening = TcpListener::bind("127.0.0.1:0").unwrap();
    let here = listening.local_addr().unwrap();
    let connected = TcpStream::connect(here).unwrap();
    let unix = tempfile::tempdir().unwrap();
    let unix = std::os::unix::net::UnixListener::bind(unix.path().join("s")).unwrap();
    let wrong: [(&str, OwnedFd); 8] = [
        (
            "UDP at an address where TCP listens",
            UdpSocket::bind(here).unwrap().into(),
        ),
        (
            "another address",
            TcpListener::bind("127.0.0.2:0").unwrap().into(),
        ),
        (
            "every address",
            TcpListener::bind("0.0.0.0:0").unwrap().into(),
        ),
        ("IPv6", TcpListener::bind("[::1]:0").unwrap().into()),
        ("UDP", UdpSocket::bind("127.0.0.1:0").unwrap().into()),
        ("a connection", connected.into()),
        ("a socket of the file system", unix.into()),
        (
            "no socket",
            std::fs::File::open("/dev/null").unwrap().into(),
        ),
    ];
    for (what, socket) in wrong {
        assert!(handed(socket).is_err(), "{what}");
    }
    assert!(handed(listening.into()).is_ok());
}

#[tokio::test(flavor = "multi_thread")]
async fn one_user_has_so_many_doors_and_no_more() {
    // rule: DOOR-2
    let keys = two(&[Action::Decrypt], &[Action::Decrypt]);
    let places = Places::default();
    let uid = rustix::process::geteuid().as_raw();
    let open = |uid| Door::open(Doorway::make().unwrap(), Arc::clone(&keys), uid, &places);
    let mut doors: Vec<Door> = (0..256).map(|_| open(uid).unwrap()).collect();
    assert!(open(uid).is_err());
    assert!(open(uid + 1).is_ok());
    doors.pop();
    // A place is free once the thread has ended.
    let begun = std::time::Instant::now();
    while open(uid).is_err() {
        assert!(begun.elapsed() < LONG, "waited in vain: the door's place");
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
}

/// The URL and the socket of a doorway that is opened again and again.
struct Kept(OwnedFd, Token);

impl Kept {
    fn doorway(&self) -> Doorway {
        Doorway::handed(self.0.try_clone().unwrap(), self.1.clone()).unwrap()
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_comes_while_no_agent_runs_is_answered_by_the_next_one() {
    // rule: AGT-12, DOOR-1
    let keys = two(&[Action::Decrypt], &[Action::Decrypt]);
    let made = Doorway::make().unwrap();
    let kept = Kept(
        made.as_fd().try_clone_to_owned().unwrap(),
        made.token().clone(),
    );
    drop(made);
    let uid = rustix::process::geteuid().as_raw();
    let open = || {
        let doorway = kept.doorway();
        let url = doorway.url().to_string();
        let door = Door::open(doorway, Arc::clone(&keys), uid, &Places::default()).unwrap();
        At { url, _door: door }
    };
    let first = open();
    assert!(ask(&first, "ListKeys", json!({})).await.is_ok());
    let At { url, _door } = first;
    drop(_door);
    // Its thread has gone, and with it the agent's copy of the socket.
    let address = url
        .strip_prefix("http://")
        .unwrap()
        .split('/')
        .next()
        .unwrap();
    let mut stream = TcpStream::connect(address).unwrap();
    stream.set_read_timeout(Some(LONG)).unwrap();
    let path = url
        .strip_prefix("http://")
        .unwrap()
        .strip_prefix(address)
        .unwrap();
    let request = format!(
        "POST {path} HTTP/1.1\r\nHost: {address}\r\nX-Amz-Target: TrentService.ListKeys\r\n\
         Connection: close\r\nContent-Length: 2\r\n\r\n{{}}"
    );
    stream.write_all(request.as_bytes()).unwrap();
    let second = open();
    assert_eq!(second.url, url);
    let said = tokio::task::spawn_blocking(move || {
        let mut said = String::new();
        stream.read_to_string(&mut said).unwrap();
        said
    });
    let said = said.await.unwrap();
    assert!(said.starts_with("HTTP/1.1 200"), "{said}");
}

#[tokio::test(flavor = "current_thread")]
async fn a_job_that_takes_its_doors_connections_away_holds_up_nobody_else() {
    // rule: DOOR-1
    let keys = two(&[Action::Decrypt], &[Action::Decrypt]);
    let uid = rustix::process::geteuid().as_raw();
    let doorway = Doorway::make().unwrap();
    let theirs = TcpListener::from(doorway.as_fd().try_clone_to_owned().unwrap());
    let address = theirs.local_addr().unwrap();
    let _door = Door::open(doorway, Arc::clone(&keys), uid, &Places::default()).unwrap();
    // Every accept at this socket waits from now on, whoever asks for it, and most find nothing there.
    theirs.set_nonblocking(false).unwrap();
    let stop = Arc::new(std::sync::atomic::AtomicBool::new(false));
    let stopped = Arc::clone(&stop);
    let thief = std::thread::spawn(move || {
        while !stopped.load(std::sync::atomic::Ordering::SeqCst) {
            let _ = theirs.accept();
        }
    });
    for _ in 0..200 {
        TcpStream::connect(address).unwrap();
        // The runtime's only thread has its turn.
        tokio::task::yield_now().await;
    }
    let other = open(&keys).await;
    assert!(ask(&other, "ListKeys", json!({})).await.is_ok());
    stop.store(true, std::sync::atomic::Ordering::SeqCst);
    while !thief.is_finished() {
        let _ = TcpStream::connect(address);
    }
    thief.join().unwrap();
}
