//! The node's door: stock boto3 under `postern exec`, with a real agent, broker and key server, and who tries to
//! come in without being asked.

mod pages;

use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::TcpStream;
use std::os::unix::process::CommandExt as _;
use std::path::PathBuf;
use std::process::{Child, ChildStdin, Command, Stdio};
use std::time::{Duration, Instant};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use tests::daemon::ended;
use tests::home::Home;
use tests::house::{DATASET, House, private};
use tests::node::Iid;

const WAIT: Duration = Duration::from_secs(60);
/// Less than a connection without a request is held.
const SOON: Duration = Duration::from_secs(20);
/// Nobody in particular.
const OTHER: u32 = 41_007;

/// Starts an agent by the rules in a node's home.
fn agent(home: &Home) -> Child {
    let mut log = std::fs::File::options();
    let log = log
        .create(true)
        .append(true)
        .open(home.dir.join("agent.log"));
    let log = log.expect("a file");
    let rules = home.dir.join("rules.toml");
    let mut agent = home.postern(&["agent", "--rules", rules.to_str().expect("text")]);
    agent.env("POSTERN_AGENT", home.dir.join("run/agent.sock"));
    let errors = log.try_clone().expect("a file");
    agent.stdout(log).stderr(errors).spawn().expect("an agent")
}

struct Node {
    house: House,
    home: Home,
    iid: Iid,
    agent: Child,
}

impl Node {
    /// A node that has logged in, with an agent that serves root.
    fn start() -> Self {
        let house = House::start();
        let iid = Iid::real(0);
        let user_data = house.user_data(&iid.account, &[]);
        let home = Home::new(&house, "node", &iid, &user_data);
        home.run(&["login"]).ok();
        let rules = home.dir.join("rules.toml");
        let text = format!(
            "[[job]]\nname = \"test\"\nuser = 0\ndatasets = [\"{DATASET}\"]\nactions = [\"decrypt\", \"encrypt\", \"rewrap\"]\n"
        );
        private(&rules, text.as_bytes());
        let agent = agent(&home);
        let mut node = Self {
            house,
            home,
            iid,
            agent,
        };
        node.is_there();
        node
    }

    /// The agent is killed, and started again.
    fn restart(&mut self) {
        self.agent.kill().expect("a child");
        self.agent.wait().expect("a child");
        std::fs::remove_file(self.socket()).expect("a socket");
        self.agent = agent(&self.home);
        self.is_there();
    }

    fn is_there(&mut self) {
        let node = self;
        let deadline = Instant::now() + WAIT;
        while !node.socket().exists() {
            let ended = node.agent.try_wait().expect("a child");
            assert!(ended.is_none(), "{ended:?}: {}", node.log());
            assert!(Instant::now() < deadline, "no socket: {}", node.log());
            // Another process is watched: there is nothing to wait on.
            std::thread::sleep(Duration::from_millis(5));
        }
    }

    fn socket(&self) -> PathBuf {
        self.home.dir.join("run/agent.sock")
    }

    fn log(&self) -> String {
        std::fs::read_to_string(self.home.dir.join("agent.log")).unwrap_or_default()
    }

    fn exec(&self, program: &[&str]) -> Command {
        let mut exec = self
            .home
            .postern(&[&["exec", "--dataset", DATASET, "--"], program].concat());
        exec.env("POSTERN_AGENT", self.socket());
        for name in ["AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"] {
            exec.env(name, "nobody-looks");
        }
        // Where the programs of others were installed, if not in their usual place.
        if let Some(home) = std::env::var_os("POSTERN_TEST_HOME") {
            exec.env("POSTERN_TEST_HOME", home);
        }
        exec
    }
}

impl Drop for Node {
    fn drop(&mut self) {
        let _ = self.agent.kill();
        let _ = self.agent.wait();
    }
}

/// A door that stays open while this is here.
struct Open {
    child: Child,
    stdin: Option<ChildStdin>,
    host: String,
    path: String,
}

impl Open {
    fn at(node: &Node) -> Self {
        let mut exec = node.exec(&["sh", "-c", "echo $AWS_ENDPOINT_URL_KMS; cat"]);
        let mut child = exec
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .expect("a program");
        let mut url = String::new();
        let stdout = child.stdout.take().expect("piped");
        BufReader::new(stdout).read_line(&mut url).expect("a line");
        let url = url.trim().strip_prefix("http://");
        let (host, path) = url.and_then(|url| url.split_once('/')).expect("a URL");
        Self {
            stdin: child.stdin.take(),
            child,
            host: host.to_owned(),
            path: format!("/{path}"),
        }
    }

    /// Status and body of one raw request.
    fn ask(&self, head: &str, body: &str) -> (u16, String) {
        self.ask_within(WAIT, head, body)
    }

    fn ask_within(&self, limit: Duration, head: &str, body: &str) -> (u16, String) {
        let mut stream = TcpStream::connect(&self.host).expect("a connection");
        stream.set_read_timeout(Some(limit)).expect("a timeout");
        let length = body.len();
        let request = format!("{head}Connection: close\r\nContent-Length: {length}\r\n\r\n{body}");
        // One whose head is refused is not read to its end.
        let _ = stream.write_all(request.as_bytes());
        let mut answer = String::new();
        let _ = stream.read_to_string(&mut answer);
        let status = answer.get(9..12).and_then(|status| status.parse().ok());
        let body = answer
            .split_once("\r\n\r\n")
            .map(|(_, body)| body.to_owned());
        (status.unwrap_or_default(), body.unwrap_or_default())
    }

    fn head(&self, path: &str, host: &str, more: &str) -> String {
        format!(
            "POST {path} HTTP/1.1\r\nHost: {host}\r\nX-Amz-Target: TrentService.GenerateRandom\r\n{more}"
        )
    }
}

impl Drop for Open {
    fn drop(&mut self) {
        drop(self.stdin.take());
        let _ = self.child.wait();
    }
}

const RANDOM: &str = "{\"NumberOfBytes\":8}";

#[test]
fn stock_boto3_works_unmodified_and_every_answer_fits_botocores_model() {
    // rule: DOOR-4, DOOR-5, DOOR-6, DOOR-7, DOOR-8, DOOR-9, DOOR-10
    let node = Node::start();
    // The ticket of another node: real, and not held for this job.
    let iid = Iid::real(1);
    let user_data = node.house.user_data(&iid.account, &[]);
    let other = Home::new(&node.house, "other", &iid, &user_data);
    other.run(&["login"]).ok();
    other
        .run(&[
            "issue",
            DATASET,
            "--action",
            "decrypt",
            "--ticket-out",
            "ticket",
        ])
        .ok();
    let ticket = std::fs::read(other.dir.join("ticket")).expect("a ticket");
    let script = concat!(env!("CARGO_MANIFEST_DIR"), "/foreign/run");
    let (region, account) = (node.iid.node.region(), node.iid.node.account());
    let ticket = STANDARD.encode(ticket);
    let said = node
        .exec(&[script, "kms_boto3.py", DATASET, region, account, &ticket])
        .output()
        .expect("a program");
    let text = String::from_utf8_lossy(&said.stdout).into_owned();
    let errors = String::from_utf8_lossy(&said.stderr).into_owned();
    assert_eq!(said.status.code(), Some(0), "{errors}\n{}", node.log());
    assert!(text.contains("held to botocore's model: kms"), "{text}");

    // All of the agent's own memory is locked: root is not limited in it.
    // rule: AGT-4
    let status = std::fs::read_to_string(format!("/proc/{}/status", node.agent.id()));
    let status = status.expect("a process");
    let kib = |name: &str| {
        let line = status.lines().find_map(|line| line.strip_prefix(name));
        let number = line.and_then(|line| line.split_whitespace().next()?.parse::<u64>().ok());
        number.expect("a number")
    };
    assert!(kib("VmLck:") >= kib("RssAnon:"), "{status}");

    // The agent tells of itself: what it holds, and that it is there.
    let agent = node.socket();
    let agent = agent.to_str().expect("text");
    let told = |arguments: &[&str]| {
        let mut postern = node.home.postern(arguments);
        postern.env("POSTERN_AGENT", agent);
        ended(postern)
    };
    let status = told(&["status", "--format", "json"]).ok();
    let status: serde_json::Value = serde_json::from_str(&status).expect("JSON");
    let job = &status["agent"]["jobs"][0];
    assert_eq!((&job["name"], &job["uid"]), (&"test".into(), &0.into()));
    assert_eq!(job["datasets"][0]["name"], DATASET);
    assert!(job["datasets"][0]["ticket"]["id"].is_string(), "{status}");
    assert!(
        status["agent"]["cache"]["misses"].as_u64() > Some(0),
        "{status}"
    );
    let doctor = told(&["doctor"]).text();
    assert!(doctor.contains("and answers this user"), "{doctor}");

    // Denied: the very next request is refused, with the sentence that says what to do.
    let door = Open::at(&node);
    let generate = door
        .head(&door.path, &door.host, "")
        .replace("GenerateRandom", "GenerateDataKey");
    let body = format!("{{\"KeyId\":\"alias/{DATASET}\",\"KeySpec\":\"AES_256\"}}");
    assert_eq!(door.ask(&generate, &body).0, 200);
    let name = node.iid.node.to_string();
    node.house
        .admin_does(&[
            "deny", "--node", &name, "--reason", "test", "--yes", "--wait", "20s",
        ])
        .ok();
    let (status, said) = door.ask(&generate, &body);
    assert_eq!(status, 400, "{said}");
    assert!(said.contains("AccessDeniedException"), "{said}");
}

#[test]
fn nobody_comes_in_by_another_token_host_method_user_or_from_a_browser() {
    // rule: DOOR-1, DOOR-2, DOOR-3, DOOR-4
    let node = Node::start();
    let door = Open::at(&node);
    let usual = door.head(&door.path, &door.host, "");
    assert_eq!(door.ask(&usual, RANDOM).0, 200);
    let port = door.host.rsplit(':').next().expect("a port");
    let local = door.head(&door.path, &format!("localhost:{port}"), "");
    assert_eq!(door.ask(&local, RANDOM).0, 200);
    assert_eq!(door.path.len(), 45, "256 bits in base64url");

    let shorter = &door.path[..door.path.len() - 2];
    let last = door.path.as_bytes()[20];
    let flipped = if last == b'A' { 'B' } else { 'A' };
    let mut wrong = door.path.clone();
    wrong.replace_range(20..21, &flipped.to_string());
    for path in ["/", shorter, &wrong, &format!("{}x", door.path)] {
        let (status, said) = door.ask(&door.head(path, &door.host, ""), RANDOM);
        assert_eq!(status, 403, "{path}");
        assert!(said.contains("AccessDeniedException"), "{said}");
    }
    for host in [
        "evil.example",
        &format!("evil.example:{port}"),
        "127.0.0.1",
        "127.0.0.1:1",
    ] {
        assert_eq!(
            door.ask(&door.head(&door.path, host, ""), RANDOM).0,
            403,
            "{host}"
        );
    }
    for header in [
        "Origin: http://evil.example",
        "Referer: http://x/",
        "Sec-Fetch-Site: cross-site",
    ] {
        let head = door.head(&door.path, &door.host, &format!("{header}\r\n"));
        let (status, said) = door.ask(&head, RANDOM);
        assert_eq!(status, 403, "{header}");
        assert!(!said.to_lowercase().contains("access-control"), "{said}");
    }
    for method in ["GET", "OPTIONS", "PUT"] {
        assert_eq!(
            door.ask(&usual.replacen("POST", method, 1), RANDOM).0,
            403,
            "{method}"
        );
    }

    // Another user with the right token: the kernel says who he is.
    let mut other = Command::new("python3");
    other.uid(OTHER).arg("-c").arg(
        "import sys, urllib.request as r\n\
         q = r.Request(sys.argv[1], sys.argv[2].encode(), {'X-Amz-Target': 'TrentService.GenerateRandom'})\n\
         try: print(r.urlopen(q).status)\n\
         except r.HTTPError as e: print(e.code)",
    );
    let url = format!("http://{}{}", door.host, door.path);
    let said = |mut command: Command| {
        let said = command.arg(&url).arg(RANDOM).output().expect("python3");
        String::from_utf8_lossy(&said.stdout).trim().to_owned()
    };
    assert_eq!(said(other), "403");

    // Others who hold as many connections as they can do not keep the job out, nor do the job's own idle ones.
    for uid in [OTHER, 0] {
        let mut crowd = Command::new("python3");
        crowd.uid(uid).arg("-c").arg(
            "import resource, select, socket, sys, time\n\
             resource.setrlimit(resource.RLIMIT_NOFILE, (4096, 4096))\n\
             host, port = sys.argv[1].split(':')\n\
             to = lambda: socket.create_connection((host, int(port)))\n\
             held = {one.fileno(): one for one in (to() for _ in range(1200))}\n\
             ends = select.poll()\n\
             for fd in held: ends.register(fd, select.POLLIN)\n\
             print('held', flush=True)\n\
             while True:\n\
             \x20   gone = [fd for fd, _ in ends.poll()]\n\
             \x20   for fd in gone: ends.unregister(fd); held.pop(fd).close()\n\
             \x20   time.sleep(0.05)\n\
             \x20   for one in [to() for _ in gone]: held[one.fileno()] = one; ends.register(one, select.POLLIN)",
        );
        crowd.arg(&door.host).stdout(Stdio::piped());
        let mut crowd = crowd.spawn().expect("python3");
        let mut line = String::new();
        let said = crowd.stdout.take().expect("a pipe");
        BufReader::new(said).read_line(&mut line).expect("a line");
        assert_eq!(line, "held\n");
        // Sooner than those connections end by themselves.
        assert_eq!(door.ask_within(SOON, &usual, RANDOM).0, 200, "{uid}");
        let _ = crowd.kill();
        let _ = crowd.wait();
    }

    // What comes in is held to its bounds, and to what the operation has.
    let long = format!(
        "{{\"NumberOfBytes\":8,\"x\":\"{}\"}}",
        "x".repeat(128 * 1024)
    );
    for (body, kind) in [
        (long.as_str(), "SerializationException"),
        ("[]", "SerializationException"),
        ("{", "SerializationException"),
        ("{\"NumberOfBytes\":\"8\"}", "SerializationException"),
        ("{\"NumberOfBytes\":8,\"Other\":1}", "ValidationException"),
        (
            "{\"NumberOfBytes\":8,\"Recipient\":{}}",
            "UnsupportedOperationException",
        ),
        ("{\"NumberOfBytes\":0}", "ValidationException"),
        ("{\"NumberOfBytes\":1025}", "ValidationException"),
        ("{}", "ValidationException"),
    ] {
        let (status, said) = door.ask(&usual, body);
        assert_eq!(status, 400, "{}", &body[..body.len().min(60)]);
        assert!(said.contains(kind), "{said}");
    }
    for target in [
        "TrentService.CreateKey",
        "DynamoDB_20120810.GetItem",
        "TrentService.",
        "x",
    ] {
        let head = usual.replace("TrentService.GenerateRandom", target);
        let (status, said) = door.ask(&head, RANDOM);
        assert_eq!(status, 400, "{target}");
        assert!(said.contains("UnsupportedOperationException"), "{said}");
    }

    // The door goes with the program that it was opened for.
    let host = door.host.clone();
    drop(door);
    let deadline = Instant::now() + WAIT;
    while TcpStream::connect(&host).is_ok() {
        assert!(Instant::now() < deadline, "the door stays open");
        std::thread::sleep(Duration::from_millis(5));
    }
}

#[test]
fn a_program_gets_its_keys_from_an_agent_that_was_restarted() {
    // rule: AGT-12
    let mut node = Node::start();
    let door = Open::at(&node);
    let decrypt = |blob: &str| {
        let head = door.head(&door.path, &door.host, "");
        let head = head.replace("GenerateRandom", "Decrypt");
        door.ask(&head, &format!("{{\"CiphertextBlob\":\"{blob}\"}}"))
    };
    let head = door.head(&door.path, &door.host, "");
    let head = head.replace("GenerateRandom", "GenerateDataKey");
    let body = format!("{{\"KeyId\":\"alias/{DATASET}\",\"KeySpec\":\"AES_256\"}}");
    let (status, made) = door.ask(&head, &body);
    assert_eq!(status, 200, "{made}");
    let made: serde_json::Value = serde_json::from_str(&made).expect("JSON");
    let blob = made["CiphertextBlob"].as_str().expect("text");
    for _ in 0..2 {
        node.restart();
        // The first one may come while the agent has no ticket of the job's yet: SDKs try that again.
        let deadline = Instant::now() + WAIT;
        let opened = loop {
            let (status, said) = decrypt(blob);
            if status == 200 {
                break said;
            }
            assert!(said.contains("ThrottlingException"), "{status} {said}");
            assert!(Instant::now() < deadline, "{said}\n{}", node.log());
        };
        let opened: serde_json::Value = serde_json::from_str(&opened).expect("JSON");
        assert_eq!(opened["Plaintext"], made["Plaintext"]);
    }
}
