//! The pages of `client/integrations`: the program of each, as it stands there, runs under `postern exec`.

use std::io::Write as _;
use std::process::Stdio;

use tests::daemon::{Said, ended};
use tests::foreign::S3;
use tests::house::DATASET;

use super::Node;

const BUCKET: &str = "reports";

/// A node, and moto with a bucket.
struct Bench {
    node: Node,
    s3: S3,
}

/// The one program of a page.
fn program(page: &str, language: &str) -> String {
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/../client/integrations");
    let path = std::path::Path::new(path).join(page);
    let text = std::fs::read_to_string(&path).expect("a page");
    let begin = format!("```{language}\n");
    let mut blocks = text.split(&begin).skip(1);
    let block = blocks.next().expect("a block");
    assert!(blocks.next().is_none(), "{page} has one block");
    let (block, _) = block.split_once("\n```\n").expect("the block's end");
    let block = block.replace("alias/genomes", &format!("alias/{DATASET}"));
    block + "\n"
}

impl Bench {
    fn start() -> Self {
        let mut node = Node::start();
        let s3 = S3::start("moto");
        node.home.s3 = Some(s3.url.clone());
        let bench = Self { node, s3 };
        // The bucket is the owner's, not the job's.
        let made = bench.run(
            "s3",
            "import boto3\nboto3.client('s3').create_bucket(Bucket='reports', \
             CreateBucketConfiguration={'LocationConstraint': 'eu-west-1'})\n",
        );
        made.ok();
        bench
    }

    /// Runs a program with the packages of a part, as a job with a door.
    fn run(&self, part: &str, program: &str) -> Said {
        let page = concat!(env!("CARGO_MANIFEST_DIR"), "/foreign/page");
        let mut exec = self.node.exec(&[page, part]);
        exec.current_dir(&self.node.home.dir);
        exec.env("AWS_ENDPOINT_URL_S3", &self.s3.url);
        exec.env("AWS_REGION", "eu-west-1");
        exec.env("AWS_DEFAULT_REGION", "eu-west-1");
        exec.stdin(Stdio::piped()).stdout(Stdio::piped());
        let mut child = exec.stderr(Stdio::piped()).spawn().expect("postern");
        let mut stdin = child.stdin.take().expect("a pipe");
        stdin.write_all(program.as_bytes()).expect("it reads");
        drop(stdin);
        Said::from(child.wait_with_output().expect("its end"))
    }
}

#[test]
fn boto3_runs_as_its_page_says() {
    // rule: DOOR-5, DOOR-6
    let bench = Bench::start();
    let said = bench.run("s3", &program("boto3.md", "python")).ok();
    let region = bench.node.iid.node.region();
    let account = bench.node.iid.node.account();
    let arn = format!("opened by arn:aws:kms:{region}:{account}:key/");
    assert!(said.starts_with(&arn), "{said}");
}

#[test]
fn the_s3_encryption_client_and_ours_read_each_others_objects() {
    // rule: DOOR-6, DOOR-7, AMZ-4, AMZ-5, AMZ-6
    let bench = Bench::start();
    let page = program("s3-encryption-client.md", "python");
    let said = bench.run("s3ec", &page).ok();
    assert_eq!(said, "a,b\n1,2\n\n");

    // Ours reads Amazon's.
    let object = format!("s3://{BUCKET}/report.csv");
    let home = &bench.node.home;
    let read = home.run(&["cat", &object, "--dataset", DATASET]).ok();
    assert_eq!(read, "a,b\n1,2\n");

    // Amazon's reads ours, with the context that it was made with and no other.
    std::fs::write(home.dir.join("ours.csv"), "c,d\n3,4\n").expect("written");
    let ours = format!("s3://{BUCKET}/ours.csv");
    let args = [
        "cp",
        "ours.csv",
        &ours,
        "--as",
        "s3ec",
        "--dataset",
        DATASET,
    ];
    home.run(&[&args[..], &["--context", "table=readings"]].concat())
        .ok();
    let get = |key: &str, context: &str| {
        let begin = page.split("s3.put_object").next().expect("a beginning");
        let get = format!(
            "got = s3.get_object(Bucket='{BUCKET}', Key='{key}', EncryptionContext={context})\n\
             print(got['Body'].read().decode(), end='')\n"
        );
        bench.run("s3ec", &(begin.to_owned() + &get))
    };
    let said = get("ours.csv", "context").ok();
    assert_eq!(said, "c,d\n3,4\n");
    let wrong = get("ours.csv", "{'table': 'writings'}");
    assert_eq!((wrong.code, wrong.text().as_str()), (Some(1), ""));

    // Metadata of one object on the body of another: its wrap opens, its commitment is another key's.
    let swap = "boto3.client('s3').put_object(Bucket='reports', Key='swapped', \
                Body=boto3.client('s3').get_object(Bucket='reports', Key='ours.csv')['Body'].read(), \
                Metadata=boto3.client('s3').head_object(Bucket='reports', Key='report.csv')['Metadata'])\n\
                one = boto3.client('s3').head_object(Bucket='reports', Key='ours.csv')['Metadata']\n\
                other = boto3.client('s3').head_object(Bucket='reports', Key='report.csv')['Metadata']\n\
                body = boto3.client('s3').get_object(Bucket='reports', Key='ours.csv')['Body'].read()\n\
                boto3.client('s3').put_object(Bucket='reports', Key='key-of-another', Body=body, \
                Metadata={**one, 'x-amz-3': other['x-amz-3'], 'x-amz-t': other['x-amz-t']})\n\
                bare = {k: v for k, v in one.items() if k != 'x-amz-3'}\n\
                boto3.client('s3').put_object(Bucket='reports', Key='instructed', Body=body, Metadata=bare)\n\
                import json\n\
                boto3.client('s3').put_object(Bucket='reports', Key='instructed.instruction', \
                Body=json.dumps({'x-amz-3': other['x-amz-3']}).encode(), Metadata={'x-amz-crypto-instr-file': ''})\n";
    bench.run("s3ec", &format!("import boto3\n{swap}")).ok();
    for key in ["swapped", "key-of-another", "instructed"] {
        let place = format!("s3://{BUCKET}/{key}");
        let ours = home.run(&["cat", &place, "--dataset", DATASET]);
        assert_eq!(
            (ours.code, ours.text().as_str()),
            (Some(9), ""),
            "{key}: {ours:?}"
        );
        let theirs = get(key, "context");
        assert!(
            theirs.code == Some(1) && theirs.stdout.is_empty(),
            "{theirs:?}"
        );
    }
}

#[test]
fn the_encryption_sdk_encrypts_by_alias_and_decrypts_by_arn() {
    // rule: DOOR-5, DOOR-8
    let bench = Bench::start();
    let page = program("encryption-sdk.md", "python");
    let more = "\
by_arn, _ = client.encrypt(source=b'another', keyring=keyring(arn), encryption_context=context)
opened, _ = client.decrypt(source=by_arn, keyring=keyring(arn), encryption_context=context)
print(opened.decode())
for given in (sealed[:40] + bytes([sealed[40] ^ 1]) + sealed[41:], sealed[:-1]):
    try:
        client.decrypt(source=given, keyring=keyring(arn))
        print('opened')
    except Exception as error:
        print('refused', type(error).__name__ != 'AssertionError')
try:
    client.decrypt(source=sealed, keyring=keyring(arn), encryption_context={'table': 'writings'})
    print('opened')
except Exception:
    print('refused')
";
    let said = bench.run("esdk", &(page + more)).ok();
    let expected = "a message\nanother\nrefused True\nrefused True\nrefused\n";
    assert_eq!(said, expected);
}

#[test]
fn pyarrow_writes_and_reads_encrypted_parquet() {
    // rule: DOOR-7, DOOR-8
    let bench = Bench::start();
    let page = program("pyarrow.md", "python");
    let more = "\
for properties in (None, pe.CryptoFactory(Keys).file_decryption_properties(connection)):
    context['file'] = 'other.parquet'
    try:
        pq.read_table('people.parquet', decryption_properties=properties)
        print('opened')
    except Exception as error:
        print('refused')
";
    let said = bench.run("pyarrow", &(page + more)).ok();
    assert_eq!(said, "2 rows read back\nrefused\nrefused\n");
}

#[test]
fn the_sdk_for_javascript_runs_as_its_page_says() {
    // rule: DOOR-4, DOOR-8
    let bench = Bench::start();
    let page = program("javascript.md", "js");
    let more = "
try {
  await kms.send(new DecryptCommand({ CiphertextBlob: made.CiphertextBlob, EncryptionContext: {} }));
  console.log('opened');
} catch (error) {
  console.log(error.name);
}
";
    let said = bench.run("node", &(page + more)).ok();
    assert!(said.starts_with("opened by arn:aws:kms:"), "{said}");
    let end = "\nInvalidCiphertextException\n";
    assert!(said.ends_with(end), "{said}");
}

#[test]
fn a_job_without_a_ticket_reads_and_writes_by_the_agent() {
    // rule: AGT-11
    let bench = Bench::start();
    let home = &bench.node.home;
    // A user with nothing of the node's: no state, no wallet, no metadata service; only the agent's socket.
    let job = |arguments: &[&str]| {
        let mut postern = home.postern(arguments);
        postern.env("POSTERN_STATE", home.dir.join("none/state"));
        let wallet = home.dir.join("none/wallet");
        postern.env("POSTERN_WALLET", format!("FILE:{}", wallet.display()));
        postern.env("POSTERN_AGENT", bench.node.socket());
        ended(postern)
    };
    let text = "one line\n".repeat(40_000);
    std::fs::write(home.dir.join("plain"), &text).expect("written");
    let object = format!("s3://{BUCKET}/by-the-agent");
    let dataset = ["--dataset", DATASET];
    let with = |arguments: &[&str]| job(&[arguments, &dataset].concat());
    with(&["cp", "plain", &object, "--context", "k=v"]).ok();
    assert_eq!(with(&["cat", &object]).ok(), text);
    assert_eq!(
        with(&["cat", &object, "--range", "9-17"]).ok(),
        "one line\n"
    );
    // Who has a ticket reads the same, and the other way round.
    assert_eq!(home.run(&["cat", &object, "--dataset", DATASET]).ok(), text);
    let other = format!("s3://{BUCKET}/by-the-wallet");
    home.run(&["cp", "plain", &other, "--dataset", DATASET])
        .ok();
    with(&["decrypt", &other, "back"]).ok();
    let back = std::fs::read_to_string(home.dir.join("back")).expect("a file");
    assert_eq!(back, text);
    // An object in the place of another one is not what was encrypted.
    let swap = format!(
        "import boto3\ns3 = boto3.client('s3')\n\
         s3.copy_object(Bucket='{BUCKET}', Key='by-the-wallet', CopySource='{BUCKET}/by-the-agent')\n"
    );
    bench.run("s3", &swap).ok();
    let swapped = with(&["cat", &other]);
    assert_eq!(swapped.code, Some(9), "{swapped:?}");
    assert!(swapped.stdout.is_empty());

    // Single data keys.
    let made = [
        "dek",
        "generate",
        "--out",
        "wrap",
        "--dek-out",
        "dek",
        "--context",
        "k=v",
    ];
    with(&made).ok();
    with(&[
        "dek",
        "redeem",
        "wrap",
        "--out",
        "again",
        "--context",
        "k=v",
    ])
    .ok();
    let read = |name: &str| std::fs::read(home.dir.join(name)).expect("a file");
    assert_eq!(read("dek"), read("again"));
    let wrong = with(&["dek", "redeem", "wrap", "--context", "k=w"]);
    assert_eq!(wrong.code, Some(9), "{wrong:?}");
    assert!(wrong.text().contains("wrap-authentication"), "{wrong:?}");

    // What the agent does not do is said.
    for (arguments, code, why) in [
        (vec!["cat", &object], 2, "say --dataset NAME"),
        (
            vec!["cat", &object, "--dataset", "none"],
            4,
            "is not one of job",
        ),
        (
            vec!["cat", &object, "--dataset", DATASET, "--accept-unsigned"],
            2,
            "nobody signed",
        ),
    ] {
        let said = job(&arguments);
        assert_eq!(said.code, Some(code), "{said:?}");
        assert!(said.stderr.contains(why), "{said:?}");
    }
}
