//! The metadata client against the stand-in service, and against services that misbehave.
#![allow(missing_docs)]

use std::net::SocketAddr;

use axum::Router;
use axum::http::{HeaderMap, Method, StatusCode, Uri};
use axum::response::{IntoResponse, Response};
use client::imds::{Imds, ImdsError, MAX_USER_DATA_BYTES};
use tests::imds_stub::{StubConfig, StubHandle, serve};
use ticket_format::iid::{RegionKeys, verify};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};

fn fixture(name: &str) -> Vec<u8> {
    let folder = concat!(
        env!("CARGO_MANIFEST_DIR"),
        "/../ticket-format/tests/data/aws/iid/metaphor-2026/"
    );
    std::fs::read(format!("{folder}{name}")).expect("a fixture")
}

fn config() -> StubConfig {
    StubConfig::new(fixture("document.json"), fixture("rsa2048.b64"))
}

async fn stub(user_data: Option<&[u8]>) -> (Imds, StubHandle, SocketAddr) {
    let mut config = config();
    config.user_data = user_data.map(<[u8]>::to_vec);
    let (address, handle) = serve(config).await.expect("a stub");
    (imds(address, &[]), handle, address)
}

/// A client of the service at an address, with further variables.
fn imds(address: SocketAddr, more: &[(&str, &str)]) -> Imds {
    let endpoint = format!("http://{address}");
    Imds::from_env(&|name| match name {
        "AWS_EC2_METADATA_SERVICE_ENDPOINT" => Some(endpoint.clone()),
        _ => more
            .iter()
            .find(|(key, _)| *key == name)
            .map(|(_, value)| (*value).to_owned()),
    })
    .expect("a client")
}

/// One raw request; returns status and the whole answer.
async fn raw(address: SocketAddr, head: &str) -> (u16, String) {
    let mut stream = TcpStream::connect(address).await.expect("a connection");
    let request = format!("{head}\r\nHost: x\r\nConnection: close\r\n\r\n");
    stream.write_all(request.as_bytes()).await.expect("sent");
    let mut answer = String::new();
    stream.read_to_string(&mut answer).await.expect("an answer");
    let status = answer[9..12].parse().expect("a status");
    (status, answer)
}

fn body_of(answer: &str) -> &str {
    answer.split_once("\r\n\r\n").expect("a head").1
}

async fn token_of(address: SocketAddr) -> String {
    let (status, answer) = raw(
        address,
        "PUT /latest/api/token HTTP/1.1\r\nX-aws-ec2-metadata-token-ttl-seconds: 60",
    )
    .await;
    assert_eq!(status, 200);
    assert!(answer.contains("x-aws-ec2-metadata-token-ttl-seconds: 60"));
    body_of(&answer).to_owned()
}

async fn get(address: SocketAddr, token: &str, path: &str) -> (u16, String) {
    let (status, answer) = raw(
        address,
        &format!("GET {path} HTTP/1.1\r\nX-aws-ec2-metadata-token: {token}"),
    )
    .await;
    (status, body_of(&answer).to_owned())
}

#[tokio::test]
async fn the_client_reads_user_data_and_a_proof_that_verifies() {
    let (imds, handle, _) = stub(Some(b"#cloud-config\n# postern\n\0\xff")).await;
    let user_data = imds.user_data().await.expect("user-data");
    assert_eq!(user_data.as_slice(), b"#cloud-config\n# postern\n\0\xff");
    let proof = imds.identity_proof().await.expect("a proof");
    let document = verify(proof.as_bytes(), &RegionKeys::built_in()).expect("verified");
    assert_eq!(document.instance_id(), "i-0c5541936caf78c12");
    // All that was ever asked for: constants, and a token for each read.
    assert_eq!(
        handle.requests(),
        [
            "PUT /latest/api/token",
            "GET /latest/user-data",
            "PUT /latest/api/token",
            "GET /latest/dynamic/instance-identity/rsa2048",
        ]
    );
    handle.stop().await;
}

#[tokio::test]
async fn an_instance_without_user_data_is_told_so_and_it_is_final() {
    let (imds, _handle, _) = stub(None).await;
    let error = imds.user_data().await.expect_err("none");
    assert!(matches!(error, ImdsError::NoUserData), "{error}");
    assert!(!error.is_retryable());
}

#[tokio::test]
async fn user_data_may_fill_its_limit_and_not_a_byte_more() {
    let full = vec![7; MAX_USER_DATA_BYTES];
    let (imds, _handle, _) = stub(Some(&full)).await;
    assert_eq!(imds.user_data().await.expect("full").as_slice(), full);
    let (imds, _handle, _) = stub(Some(&[full, vec![7]].concat())).await;
    let error = imds.user_data().await.expect_err("too much");
    assert!(matches!(error, ImdsError::TooLarge { limit: 16_384, .. }));
}

#[tokio::test]
async fn the_stub_keeps_the_services_rules_about_tokens() {
    let (_, handle, address) = stub(Some(b"x")).await;
    const TTL: &str = "X-aws-ec2-metadata-token-ttl-seconds";
    for (head, expected) in [
        ("PUT /latest/api/token HTTP/1.1".to_owned(), 400),
        (format!("PUT /latest/api/token HTTP/1.1\r\n{TTL}: 0"), 400),
        (
            format!("PUT /latest/api/token HTTP/1.1\r\n{TTL}: 21601"),
            400,
        ),
        (format!("PUT /latest/api/token HTTP/1.1\r\n{TTL}: x"), 400),
        (
            format!("PUT /latest/api/token HTTP/1.1\r\n{TTL}: 21600"),
            200,
        ),
        (
            format!("PUT /latest/api/token HTTP/1.1\r\n{TTL}: 60\r\nX-Forwarded-For: x"),
            403,
        ),
        (
            format!("PUT /2021-03-23/api/token HTTP/1.1\r\n{TTL}: 60"),
            403,
        ),
        ("GET /latest/api/token HTTP/1.1".to_owned(), 405),
        ("POST /latest/user-data HTTP/1.1".to_owned(), 405),
        ("GET /latest/user-data HTTP/1.1".to_owned(), 401),
        ("GET /latest/nothing HTTP/1.1".to_owned(), 401),
    ] {
        assert_eq!(raw(address, &head).await.0, expected, "{head}");
    }
    assert_eq!(get(address, "false", "/latest/user-data").await.0, 401);
    let token = token_of(address).await;
    assert_eq!(
        get(address, &token, "/latest/user-data").await,
        (200, "x".into())
    );
    handle.forget_tokens();
    assert_eq!(get(address, &token, "/latest/user-data").await.0, 401);
}

#[tokio::test]
async fn the_stub_has_the_tree_that_sdks_and_cloud_init_walk() {
    let (_, _handle, address) = stub(Some(b"x")).await;
    let token = token_of(address).await;
    let read = async |path: &str| get(address, &token, path).await;
    for version in ["latest", "2021-03-23", "2018-09-24", "2016-09-02"] {
        let (status, list) = read(&format!("/{version}/meta-data/")).await;
        assert_eq!(status, 200);
        for name in [
            "ami-id",
            "iam/",
            "instance-id",
            "local-ipv4",
            "network/",
            "placement/",
        ] {
            assert!(list.lines().any(|line| line == name), "{name} in {list}");
        }
        // Everything that a listing names can be read.
        let mut open = vec![
            format!("/{version}/meta-data/"),
            format!("/{version}/dynamic/"),
        ];
        let mut files = 0;
        while let Some(directory) = open.pop() {
            let (status, list) = read(&directory).await;
            assert_eq!(status, 200, "{directory}");
            for name in list.lines() {
                let path = format!("{directory}{name}");
                if name.ends_with('/') {
                    open.push(path);
                } else {
                    assert_eq!(read(&path).await.0, 200, "{path}");
                    files += 1;
                }
            }
        }
        assert!(files > 20, "{files}");
    }
    for (path, content) in [
        ("/latest/meta-data/instance-id", "i-0c5541936caf78c12"),
        (
            "/latest/meta-data/placement/availability-zone/",
            "ap-southeast-2a",
        ),
        ("/latest/meta-data/placement/region", "ap-southeast-2"),
        ("/latest/meta-data/iam/security-credentials/", ""),
        ("/latest/meta-data/iam/security-credentials", ""),
        ("/latest/dynamic/instance-identity", "document\nrsa2048"),
    ] {
        assert_eq!(read(path).await, (200, content.to_owned()), "{path}");
    }
    let (_, document) = read("/latest/dynamic/instance-identity/document").await;
    assert_eq!(document.as_bytes(), fixture("document.json"));
    for path in [
        "/latest/dynamic/instance-identity/pkcs7",
        "/1999/meta-data/",
        "/x",
        "/latest/x/",
    ] {
        assert_eq!(read(path).await.0, 404, "{path}");
    }
}

#[tokio::test]
async fn the_stub_listens_on_loopback_only() {
    let mut config = config();
    config.listen = SocketAddr::from(([0, 0, 0, 0], 0));
    assert!(serve(config).await.is_err());
}

/// A service that answers each request by a function of method, path and headers.
async fn hostile<F>(answer: F) -> SocketAddr
where
    F: Fn(&Method, &str, &HeaderMap) -> Response + Clone + Send + Sync + 'static,
{
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
    let address = listener.local_addr().expect("an address");
    let router = Router::new().fallback(move |method: Method, uri: Uri, headers: HeaderMap| {
        let response = answer(&method, uri.path(), &headers);
        async move { response }
    });
    tokio::spawn(async move { axum::serve(listener, router).await });
    address
}

/// Gives a token, then this status for every read.
async fn reads_answer(status: StatusCode) -> ImdsError {
    let address = hostile(move |method, _, _| match *method {
        Method::PUT => "token".into_response(),
        _ => (status, "secret page").into_response(),
    })
    .await;
    imds(address, &[]).user_data().await.expect_err("an error")
}

async fn token_answers(
    response: impl Fn() -> Response + Clone + Send + Sync + 'static,
) -> ImdsError {
    let address = hostile(move |method, _, _| match *method {
        Method::PUT => response(),
        _ => "version 1 would be readable".into_response(),
    })
    .await;
    imds(address, &[]).user_data().await.expect_err("an error")
}

#[tokio::test]
async fn version_1_is_never_used_whatever_the_token_request_gets() {
    for (status, retryable) in [
        (400, false),
        (401, false),
        (403, false),
        (404, false),
        (405, false),
        (429, true),
        (500, true),
        (503, true),
        (204, false),
        (302, false),
    ] {
        let status = StatusCode::from_u16(status).expect("a status");
        let error = token_answers(move || status.into_response()).await;
        assert_eq!(error.is_retryable(), retryable, "{error}");
    }
    let error = token_answers(|| StatusCode::NOT_FOUND.into_response()).await;
    assert!(matches!(error, ImdsError::NoVersion2 { status: 404 }));
    let error = token_answers(|| StatusCode::FORBIDDEN.into_response()).await;
    assert!(matches!(error, ImdsError::Forbidden { .. }));
}

#[tokio::test]
async fn a_token_that_is_no_token_is_refused() {
    for bad in ["", "two words", "line\nline", "t\u{f6}ken"] {
        let error = token_answers(move || bad.into_response()).await;
        assert!(
            matches!(error, ImdsError::Malformed { .. }),
            "{bad:?} {error}"
        );
    }
    let error = token_answers(|| "x".repeat(1025).into_response()).await;
    assert!(matches!(error, ImdsError::TooLarge { limit: 1024, .. }));
}

#[tokio::test]
async fn each_status_of_a_read_has_its_meaning_and_no_answer_text_is_repeated() {
    for (status, name, retryable) in [
        (400, "UnexpectedStatus", false),
        (401, "Unauthorized", false),
        (403, "Forbidden", false),
        (404, "NoUserData", false),
        (429, "Busy", true),
        (500, "Busy", true),
        (503, "Busy", true),
        (302, "UnexpectedStatus", false),
    ] {
        let error = reads_answer(StatusCode::from_u16(status).expect("a status")).await;
        assert!(format!("{error:?}").starts_with(name), "{error:?}");
        assert_eq!(error.is_retryable(), retryable, "{error}");
        assert!(!error.to_string().contains("secret page"), "{error}");
    }
}

#[tokio::test]
async fn cve_2020_16250_a_redirect_is_not_followed() {
    let (_, handle, target) = stub(Some(b"x")).await;
    let location = format!("http://{target}/latest/user-data");
    let address = hostile(move |method, _, _| match *method {
        Method::PUT => "token".into_response(),
        _ => (
            StatusCode::TEMPORARY_REDIRECT,
            [("location", location.clone())],
        )
            .into_response(),
    })
    .await;
    let error = imds(address, &[]).user_data().await.expect_err("refused");
    assert!(matches!(
        error,
        ImdsError::UnexpectedStatus { status: 307, .. }
    ));
    assert!(handle.requests().is_empty());
}

#[tokio::test]
async fn a_token_that_ran_out_is_replaced_once() {
    // The first token is refused, the second is good.
    let given = std::sync::Arc::new(std::sync::atomic::AtomicUsize::new(0));
    let address = hostile(move |method, _, headers| match *method {
        Method::PUT => {
            let number = given.fetch_add(1, std::sync::atomic::Ordering::SeqCst);
            format!("token-{number}").into_response()
        }
        _ if headers["x-aws-ec2-metadata-token"] == "token-1" => "data".into_response(),
        _ => StatusCode::UNAUTHORIZED.into_response(),
    })
    .await;
    let user_data = imds(address, &[]).user_data().await.expect("second try");
    assert_eq!(user_data.as_slice(), b"data");
}

#[tokio::test]
async fn a_busy_service_is_asked_again_as_often_as_the_variable_says() {
    let asked = std::sync::Arc::new(std::sync::atomic::AtomicUsize::new(0));
    let counter = asked.clone();
    let address = hostile(move |_, _, _| {
        counter.fetch_add(1, std::sync::atomic::Ordering::SeqCst);
        StatusCode::SERVICE_UNAVAILABLE.into_response()
    })
    .await;
    let patient = imds(address, &[("AWS_METADATA_SERVICE_NUM_ATTEMPTS", "3")]);
    let error = patient.user_data().await.expect_err("busy");
    assert!(matches!(error, ImdsError::Busy { status: 503, .. }));
    assert_eq!(asked.load(std::sync::atomic::Ordering::SeqCst), 3);
}

#[tokio::test]
async fn cve_2020_16250_an_endless_answer_is_cut_off_at_the_limit() {
    // Chunked encoding that never ends, on a connection that is written to until it breaks.
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
    let address = listener.local_addr().expect("an address");
    tokio::spawn(async move {
        let (mut stream, _) = listener.accept().await.expect("a connection");
        let mut request = [0; 4096];
        let _ = stream.read(&mut request).await;
        let token = "HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\ntoken";
        stream.write_all(token.as_bytes()).await.expect("sent");
        let _ = stream.read(&mut request).await;
        let head = "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n";
        stream.write_all(head.as_bytes()).await.expect("sent");
        let chunk = format!("1000\r\n{}\r\n", "A".repeat(4096));
        while stream.write_all(chunk.as_bytes()).await.is_ok() {}
    });
    let error = imds(address, &[])
        .identity_proof()
        .await
        .expect_err("cut off");
    assert!(matches!(error, ImdsError::TooLarge { .. }), "{error}");
}

#[tokio::test]
async fn cve_2020_16250_what_the_metadata_service_is_sent_is_constant_to_the_last_byte() {
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
    let address = listener.local_addr().expect("an address");
    let (sent, mut seen) = tokio::sync::mpsc::unbounded_channel();
    tokio::spawn(async move {
        loop {
            let (mut stream, _) = listener.accept().await.expect("a connection");
            let sent = sent.clone();
            tokio::spawn(async move {
                let mut request = Vec::new();
                while let Ok(byte) = stream.read_u8().await {
                    request.push(byte);
                    if request.ends_with(b"\r\n\r\n") {
                        let token = request.starts_with(b"PUT");
                        sent.send(std::mem::take(&mut request))
                            .expect("the test waits");
                        let body = if token { "token" } else { "data" };
                        let answer = format!(
                            "HTTP/1.1 200 OK\r\nContent-Length: {}\r\n\r\n{body}",
                            body.len()
                        );
                        stream.write_all(answer.as_bytes()).await.expect("sent");
                    }
                }
            });
        }
    });
    // Nothing of the environment but the service's address goes into what is sent.
    let odd = [
        ("AWS_PROFILE", "x\r\nX-Y: z"),
        ("HTTP_PROXY", "http://127.0.0.1:9"),
    ];
    let imds = imds(address, &odd);
    imds.user_data().await.expect("data");
    imds.identity_proof().await.expect("data");
    let mut requests = Vec::new();
    while let Ok(request) = seen.try_recv() {
        requests.push(String::from_utf8(request).expect("text"));
    }
    const VERSION: &str = env!("CARGO_PKG_VERSION");
    let token = format!(
        "PUT /latest/api/token HTTP/1.1\r\nx-aws-ec2-metadata-token-ttl-seconds: 60\r\naccept: */*\r\nuser-agent: postern/{VERSION}\r\nhost: {address}\r\n\r\n"
    );
    let read = |path: &str| {
        format!(
            "GET {path} HTTP/1.1\r\nx-aws-ec2-metadata-token: token\r\naccept: */*\r\nuser-agent: postern/{VERSION}\r\nhost: {address}\r\n\r\n"
        )
    };
    let proof = read("/latest/dynamic/instance-identity/rsa2048");
    assert_eq!(
        requests,
        [token.clone(), read("/latest/user-data"), token, proof]
    );
}

#[tokio::test]
async fn a_proof_that_is_not_ascii_text_is_refused() {
    for bad in [vec![], vec![0xff, 0xfe], "\u{e9}".as_bytes().to_vec()] {
        let address = hostile(move |method, _, _| match *method {
            Method::PUT => "token".into_response(),
            _ => bad.clone().into_response(),
        })
        .await;
        let error = imds(address, &[])
            .identity_proof()
            .await
            .expect_err("no text");
        assert!(matches!(error, ImdsError::Malformed { .. }), "{error}");
    }
}

#[tokio::test]
async fn silence_on_the_token_request_names_the_hop_limit() {
    // The system completes the connection; nobody ever answers.
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
    let address = listener.local_addr().expect("an address");
    let error = imds(address, &[]).user_data().await.expect_err("silence");
    assert!(matches!(error, ImdsError::TokenTimeout { .. }), "{error}");
    assert!(error.to_string().contains("hop limit"));
    assert!(error.is_retryable());
}

#[tokio::test]
async fn an_absent_service_is_named_with_its_address() {
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
    let address = listener.local_addr().expect("an address");
    drop(listener);
    let error = imds(address, &[]).user_data().await.expect_err("absent");
    assert!(matches!(error, ImdsError::Unreachable { .. }), "{error}");
    assert!(error.to_string().contains(&address.to_string()), "{error}");
    assert!(error.is_retryable());
}

/// Set in the process that this test starts from its own program.
const CHILD_ENDPOINT: &str = "POSTERN_TEST_IMDS_ADDRESS";

#[tokio::test]
async fn a_proxy_in_the_environment_is_not_used() {
    if let Ok(address) = std::env::var(CHILD_ENDPOINT) {
        let address = address.parse().expect("an address");
        let user_data = imds(address, &[]).user_data().await.expect("user-data");
        assert_eq!(user_data.as_slice(), b"x");
        return;
    }
    let (_, handle, address) = stub(Some(b"x")).await;
    // A proxy that would be seen: everything sent to it is refused.
    let proxy = hostile(|_, _, _| StatusCode::BAD_GATEWAY.into_response()).await;
    let mut child = tokio::process::Command::new(std::env::current_exe().expect("this program"));
    child
        .args(["--exact", "a_proxy_in_the_environment_is_not_used"])
        .env(CHILD_ENDPOINT, address.to_string())
        .env_remove("NO_PROXY")
        .env_remove("no_proxy");
    for variable in ["http_proxy", "HTTP_PROXY", "ALL_PROXY", "all_proxy"] {
        child.env(variable, format!("http://{proxy}"));
    }
    let output = child.output().await.expect("the child ran");
    assert!(output.status.success(), "{output:?}");
    assert_eq!(handle.requests().len(), 2);
}
