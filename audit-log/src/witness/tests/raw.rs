//! The service over HTTP, asked byte by byte.

use std::sync::Arc;
use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::oneshot;
use tokio::task::JoinHandle;

use super::super::request::MAX_BODY;
use super::super::{Answer, ServeLimits, digest, serve};
use super::{Tree, assert_cosigned, now, witness};

struct Served {
    _dir: tempfile::TempDir,
    address: std::net::SocketAddr,
    stop: oneshot::Sender<()>,
    task: JoinHandle<std::io::Result<()>>,
}

async fn served(logs: &[&Tree], limits: ServeLimits) -> Served {
    let (dir, witness) = witness(logs);
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let (stop, stopped) = oneshot::channel::<()>();
    let ended = async {
        let _ = stopped.await;
    };
    let task = tokio::spawn(serve(
        listener,
        Arc::new(witness),
        Arc::new(now),
        limits,
        ended,
    ));
    Served {
        _dir: dir,
        address,
        stop,
        task,
    }
}

fn post(body: &[u8]) -> Vec<u8> {
    let head = format!(
        "POST /add-checkpoint HTTP/1.1\r\nHost: w\r\nContent-Length: {}\r\nConnection: close\r\n\r\n",
        body.len()
    );
    [head.as_bytes(), body].concat()
}

/// Sends bytes, reads to the end: status, head, body.
async fn ask(served: &Served, request: &[u8]) -> (u16, String, String) {
    let mut stream = TcpStream::connect(served.address).await.unwrap();
    // A server that refuses by the head may close before all of the body is written.
    let _ = stream.write_all(request).await;
    let mut answer = Vec::new();
    let _ = stream.read_to_end(&mut answer).await;
    parts(&answer)
}

fn parts(answer: &[u8]) -> (u16, String, String) {
    let text = String::from_utf8(answer.to_vec()).unwrap();
    let (head, body) = text.split_once("\r\n\r\n").unwrap_or((&text, ""));
    let status = head.split(' ').nth(1).and_then(|code| code.parse().ok());
    (
        status.unwrap_or(0),
        head.to_ascii_lowercase(),
        body.to_owned(),
    )
}

#[tokio::test(flavor = "multi_thread")]
async fn every_answer_of_the_protocol_comes_over_http_as_it_is_specified() {
    // rule: TLOG-9
    let (log, unknown) = (Tree::new("http"), Tree::new("unknown"));
    let fork = Tree::forked("http", 3, "b");
    let served = served(&[&log], ServeLimits::default()).await;
    let good = log.request(0, 5);
    let text = String::from_utf8(good.clone()).unwrap();
    let hash = "A".repeat(43) + "=\n";
    let unsigned = format!("{}\n— a AAAAAAAA\n", log.checkpoint(5).text());
    let mut not_text = good.clone();
    not_text.push(0xff);
    let steps: Vec<(&str, Vec<u8>, u16)> = vec![
        ("unknown origin", unknown.request(0, 5), 404),
        (
            "not signed",
            format!("old 0\n\n{unsigned}").into_bytes(),
            403,
        ),
        ("beyond the checkpoint", log.request(6, 5), 400),
        ("empty", Vec::new(), 400),
        ("not UTF-8", not_text, 400),
        (
            "64 proof lines",
            text.replacen("old 0\n", &format!("old 0\n{}", hash.repeat(64)), 1)
                .into_bytes(),
            400,
        ),
        (
            "63 proof lines from nothing",
            text.replacen("old 0\n", &format!("old 0\n{}", hash.repeat(63)), 1)
                .into_bytes(),
            422,
        ),
        ("CRLF", text.replace('\n', "\r\n").into_bytes(), 400),
        (
            "leading zero",
            text.replacen("old 0", "old 00", 1).into_bytes(),
            400,
        ),
        (
            "bad base64",
            text.replacen("old 0\n", "old 0\nAAAA*\n", 1).into_bytes(),
            400,
        ),
        ("too long", vec![b'x'; MAX_BODY + 1], 413),
        ("other size", log.request(4, 5), 409),
        ("first", good.clone(), 200),
        ("stale", good.clone(), 409),
        ("the same again", log.request(5, 5), 200),
        ("other root", fork.request(5, 5), 409),
        ("other branch", fork.request(5, 9), 422),
        ("grown", log.request(5, 9), 200),
    ];
    for (what, body, expected) in steps {
        let (status, head, answer) = ask(&served, &post(&body)).await;
        assert_eq!(status, expected, "{what}: {head}\n{answer}");
        if status == 409 {
            assert!(
                head.contains("content-type: text/x.tlog.size\r\n"),
                "{head}"
            );
            let size = if what == "other size" { "0\n" } else { "5\n" };
            assert_eq!(answer, size, "{what}");
        }
        if status == 200 {
            let size = if what == "grown" { 9 } else { 5 };
            assert_cosigned(&Answer::Cosigned(answer), &log.checkpoint(size));
        }
    }
    let shown = digest(&log.checkpoint(0).shard.to_string());
    let get = format!("GET /checkpoint/{shown} HTTP/1.1\r\nHost: w\r\nConnection: close\r\n\r\n");
    let (status, _, note) = ask(&served, get.as_bytes()).await;
    let shown = log.secret.key().verify(&note).unwrap();
    assert_eq!((status, shown.checkpoint()), (200, &log.checkpoint(9)));
    for (request, expected) in [
        ("GET /add-checkpoint", 405),
        ("PUT /add-checkpoint", 405),
        ("GET /", 404),
        ("POST /checkpoint/x", 405),
        ("GET /checkpoint/x", 404),
        ("GET /../witness.keys", 404),
    ] {
        let request = format!(
            "{request} HTTP/1.1\r\nHost: w\r\nContent-Length: 0\r\nConnection: close\r\n\r\n"
        );
        assert_eq!(
            ask(&served, request.as_bytes()).await.0,
            expected,
            "{request}"
        );
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_body_beyond_the_bound_is_refused_however_its_length_is_told() {
    let log = Tree::new("long");
    let served = served(&[&log], ServeLimits::default()).await;
    // By its head alone: not a byte of the body is sent.
    let head = "POST /add-checkpoint HTTP/1.1\r\nHost: w\r\nConnection: close\r\n";
    let told = format!("{head}Content-Length: 1000000000\r\n\r\n");
    assert_eq!(ask(&served, told.as_bytes()).await.0, 413);
    // In chunks that never say how many will come.
    let mut chunked = format!("{head}Transfer-Encoding: chunked\r\n\r\n").into_bytes();
    for _ in 0..5 {
        chunked.extend_from_slice(b"4000\r\n");
        chunked.extend_from_slice(&vec![b'x'; 0x4000]);
        chunked.extend_from_slice(b"\r\n");
    }
    assert_eq!(ask(&served, &chunked).await.0, 413);
    // A head beyond its own bound.
    let long = format!("{head}X: {}\r\n\r\n", "x".repeat(20_000));
    let (status, ..) = ask(&served, long.as_bytes()).await;
    assert!([0, 431].contains(&status), "{status}");
}

#[tokio::test(flavor = "multi_thread")]
async fn who_is_slow_is_cut_off_and_who_keeps_a_connection_may_ask_again_on_it() {
    let log = Tree::new("slow");
    let limits = ServeLimits {
        head: Duration::from_millis(300),
        body: Duration::from_millis(300),
        ..ServeLimits::default()
    };
    let served = served(&[&log], limits).await;
    // Half a head, then nothing: the connection ends without an answer of ours.
    let (status, ..) = ask(&served, b"POST /add-checkpoint HTTP/1.1\r\nHos").await;
    assert!([0, 408].contains(&status), "{status}");
    // A head, then half a body.
    let half = b"POST /add-checkpoint HTTP/1.1\r\nHost: w\r\nContent-Length: 50\r\nConnection: close\r\n\r\nold 0";
    assert_eq!(ask(&served, half).await.0, 408);
    // Two requests on one connection.
    let mut stream = TcpStream::connect(served.address).await.unwrap();
    for (old, new) in [(0, 3), (3, 7)] {
        let body = log.request(old, new);
        let head = format!(
            "POST /add-checkpoint HTTP/1.1\r\nHost: w\r\nContent-Length: {}\r\n\r\n",
            body.len()
        );
        stream.write_all(head.as_bytes()).await.unwrap();
        stream.write_all(&body).await.unwrap();
        let mut answer = Vec::new();
        let mut buffer = [0; 4096];
        while !answer.ends_with(b"\n") || !answer.windows(4).any(|four| four == b"\r\n\r\n") {
            let read = stream.read(&mut buffer).await.unwrap();
            assert!(read > 0, "the connection ended");
            answer.extend_from_slice(&buffer[..read]);
        }
        assert_eq!(parts(&answer).0, 200);
    }
    // And silence after that ends it.
    let mut rest = Vec::new();
    stream.read_to_end(&mut rest).await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn connections_are_bounded_and_end_when_the_service_does() {
    let log = Tree::new("bounded");
    let limits = ServeLimits {
        connections: 2,
        head: Duration::from_secs(30),
        ..ServeLimits::default()
    };
    let served = served(&[&log], limits).await;
    let mut first = TcpStream::connect(served.address).await.unwrap();
    let second = TcpStream::connect(served.address).await.unwrap();
    for stream in [&first, &second] {
        stream.writable().await.unwrap();
    }
    first
        .write_all(b"GET / HTTP/1.1\r\nHost: w\r\n\r\n")
        .await
        .unwrap();
    let mut one = [0; 12];
    first.read_exact(&mut one).await.unwrap();
    assert_eq!(&one, b"HTTP/1.1 404");
    // The third is not answered while the two are held.
    let request = post(&log.request(0, 3));
    let mut third = Box::pin(ask(&served, &request));
    let waited = tokio::time::timeout(Duration::from_millis(300), &mut third).await;
    assert!(waited.is_err(), "a third was served beside the two");
    drop(first);
    let (status, ..) = third.await;
    assert_eq!(status, 200);
    // An idle connection does not hold the end up.
    let Served { stop, task, .. } = served;
    stop.send(()).unwrap();
    task.await.unwrap().unwrap();
    drop(second);
}

#[tokio::test(flavor = "multi_thread")]
async fn who_does_not_get_a_turn_is_told_to_try_again() {
    let log = Tree::new("turns");
    let limits = ServeLimits {
        judged: 0,
        ..ServeLimits::default()
    };
    let served = served(&[&log], limits).await;
    assert_eq!(ask(&served, &post(&log.request(0, 3))).await.0, 503);
}
