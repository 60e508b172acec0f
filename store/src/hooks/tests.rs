use std::fs;
use std::path::Path;
use std::time::Instant;

use super::*;

/// Long enough for anything that is not stuck.
const PATIENCE: Duration = Duration::from_secs(20);

fn limits() -> HookLimits {
    HookLimits::default()
}

/// A shell with a script; `$1` is the directory. The script is not run as a program itself: one that
/// another test's child has still open for writing would be refused as busy.
fn script(dir: &Path, name: &str, text: &str) -> Vec<String> {
    let path = dir.join(name);
    fs::write(&path, format!("{text}\n")).unwrap();
    [Path::new("/bin/sh"), &path, dir]
        .map(|word| word.display().to_string())
        .to_vec()
}

fn hook(argv: &[String], limits: HookLimits) -> Hook {
    Hook::new(argv.to_vec(), limits).unwrap()
}

/// Looks again until it is so.
async fn until(what: &str, so: impl Fn() -> bool) {
    let started = Instant::now();
    while !so() {
        assert!(started.elapsed() < PATIENCE, "never: {what}");
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}

fn read(dir: &Path, name: &str) -> String {
    fs::read_to_string(dir.join(name)).unwrap_or_default()
}

fn lives(pid: &str) -> bool {
    // A zombie whose new parent has not looked yet is dead too.
    let stat = fs::read_to_string(format!("/proc/{}/stat", pid.trim())).unwrap_or_default();
    stat.rsplit(')')
        .next()
        .and_then(|rest| rest.trim().chars().next())
        .is_some_and(|state| state != 'Z')
}

#[test]
fn a_hook_is_an_absolute_path_of_an_executable_that_not_everybody_may_replace() {
    // rule: EXP-4
    let dir = tempfile::tempdir().unwrap();
    let path = script(dir.path(), "good", "exit 0").remove(1);
    fs::set_permissions(&path, fs::Permissions::from_mode(0o755)).unwrap();
    let mut argv = vec![path.clone()];
    check(&argv).unwrap();
    check(&[]).unwrap();
    let error = |argv: &[String]| check(argv).unwrap_err().to_string();
    assert!(error(&["good".to_owned()]).contains("no absolute path"));
    assert!(error(&[format!("{path}x")]).contains("cannot be used"));
    assert!(error(&[dir.path().display().to_string()]).contains("no executable file"));
    argv.push("a\0b".to_owned());
    assert!(error(&argv).contains("zero byte"));
    argv.pop();
    fs::set_permissions(&path, fs::Permissions::from_mode(0o757)).unwrap();
    assert!(error(&argv).contains("writable by everybody"));
    fs::set_permissions(&path, fs::Permissions::from_mode(0o644)).unwrap();
    assert!(error(&argv).contains("no executable file"));
    assert!(matches!(
        Hook::new(vec!["/bin/sh".to_owned()], limits()),
        Err(HookError::NoRuntime)
    ));
}

#[tokio::test]
async fn a_program_gets_one_line_and_its_arguments_as_they_are_and_nothing_of_the_environment() {
    // rule: EXP-4
    let dir = tempfile::tempdir().unwrap();
    let text = r#"cat > "$1/line.new"; printf '%s|' "$@" > "$1/words"; env > "$1/env"; pwd > "$1/where"
mv "$1/line.new" "$1/line""#;
    let mut argv = script(dir.path(), "prog", text);
    argv.push("$(touch /nonexistent); `id` \"x".to_owned());
    let hook = hook(&argv, limits());
    hook.tell("{\"alarm\":\"canary\",\n\"node\":1}".to_owned());
    until("run", || hook.counts().run == 1).await;
    assert_eq!(
        read(dir.path(), "line"),
        "{\"alarm\":\"canary\", \"node\":1}\n"
    );
    assert_eq!(
        read(dir.path(), "words"),
        format!("{}|{}|", argv[2], argv[3])
    );
    // The test runner's own variables are many; the shell adds those of its own.
    for line in read(dir.path(), "env").lines() {
        let name = line.split('=').next().unwrap();
        assert!(
            ["PATH", "LANG", "PWD", "OLDPWD", "SHLVL", "_"].contains(&name),
            "{line}"
        );
    }
    assert_eq!(read(dir.path(), "where"), "/\n");
}

#[tokio::test]
async fn a_program_that_hangs_is_killed_with_its_children_and_counted() {
    // rule: EXP-4
    let dir = tempfile::tempdir().unwrap();
    let text = r#"sleep 600 & echo $! > "$1/child"; echo $$ > "$1/self"; wait"#;
    let argv = script(dir.path(), "prog", text);
    let run_time = Duration::from_millis(400);
    let hook = hook(
        &argv,
        HookLimits {
            run_time,
            ..limits()
        },
    );
    hook.tell("{}".to_owned());
    until("killed", || hook.counts().failed == 1).await;
    let (own, child) = (read(dir.path(), "self"), read(dir.path(), "child"));
    assert!(!own.is_empty() && !child.is_empty());
    until("both are dead", || !lives(&own) && !lives(&child)).await;
}

#[tokio::test]
async fn a_child_that_a_program_leaves_behind_ends_with_it() {
    // rule: EXP-4
    let dir = tempfile::tempdir().unwrap();
    let argv = script(
        dir.path(),
        "prog",
        r#"sleep 600 & echo $! > "$1/child"; exit 0"#,
    );
    let hook = hook(&argv, limits());
    hook.tell("{}".to_owned());
    until("run", || hook.counts().run == 1).await;
    let child = read(dir.path(), "child");
    assert!(!child.is_empty());
    until("the child is dead", || !lives(&child)).await;
}

#[tokio::test]
async fn programs_that_fail_or_do_not_listen_or_say_too_much_hinder_nobody() {
    // rule: EXP-4
    let dir = tempfile::tempdir().unwrap();
    let failing = hook(
        &script(dir.path(), "failing", "echo no >&2; exit 3"),
        limits(),
    );
    let deaf = hook(&script(dir.path(), "deaf", "exec <&-; exit 0"), limits());
    let loud = hook(
        &script(
            dir.path(),
            "loud",
            "head -c 500000 /dev/zero; head -c 500000 /dev/zero >&2; exit 0",
        ),
        limits(),
    );
    let endless = hook(
        &script(dir.path(), "endless", "exec cat /dev/zero"),
        limits(),
    );
    // More than a pipe holds.
    let line = format!("{{\"x\":\"{}\"}}", "y".repeat(60_000));
    for hook in [&failing, &deaf, &loud, &endless] {
        hook.tell(line.clone());
    }
    until("failed", || failing.counts().failed == 1).await;
    until("deaf ran", || deaf.counts().run == 1).await;
    until("loud ran", || loud.counts().run == 1).await;
    until("endless was cut off", || endless.counts().failed == 1).await;
}

#[tokio::test]
async fn what_the_queue_cannot_take_is_counted_and_nobody_waits() {
    // rule: EXP-4
    let dir = tempfile::tempdir().unwrap();
    // Each run says that it is there, and hangs.
    let argv = script(dir.path(), "prog", r#"echo x >> "$1/runs"; exec sleep 600"#);
    let (queue, at_once) = (8, 2);
    let hook = hook(
        &argv,
        HookLimits {
            queue,
            at_once,
            ..limits()
        },
    );
    let runs = || read(dir.path(), "runs").lines().count();
    for started in 1..=at_once {
        hook.tell("{}".to_owned());
        until("started", || runs() == started).await;
    }
    let begun = Instant::now();
    for _ in 0..100 {
        hook.tell("{}".to_owned());
    }
    assert!(begun.elapsed() < Duration::from_secs(1));
    assert_eq!(hook.counts().dropped, 100 - queue as u64);
    hook.tell("x".repeat(limits().line + 1));
    assert_eq!(hook.counts().dropped, 101 - queue as u64);
    assert_eq!(runs(), at_once);
    hook.shutdown().await;
    let counts = hook.counts();
    assert_eq!((counts.failed, counts.dropped), (at_once as u64, 101));
}

#[tokio::test]
async fn a_shutdown_ends_the_programs_that_run() {
    // rule: EXP-4
    let dir = tempfile::tempdir().unwrap();
    let argv = script(
        dir.path(),
        "prog",
        r#"sleep 600 & echo $! > "$1/child"; echo $$ > "$1/self"; wait"#,
    );
    let hook = hook(&argv, limits());
    hook.tell("{}".to_owned());
    until("started", || !read(dir.path(), "self").is_empty()).await;
    hook.shutdown().await;
    let (own, child) = (read(dir.path(), "self"), read(dir.path(), "child"));
    until("both are dead", || !lives(&own) && !lives(&child)).await;
    hook.tell("{}".to_owned());
    hook.shutdown().await;
    let counts = hook.counts();
    assert_eq!((counts.failed, counts.dropped), (1, 1));
}

#[tokio::test]
async fn no_hook_takes_everything_and_does_nothing() {
    let hook = Hook::new(Vec::new(), limits()).unwrap();
    hook.tell("{}".to_owned());
    hook.shutdown().await;
    assert_eq!(hook.counts(), HookCounts::default());
}
