//! Witness policies.

use super::*;

#[test]
fn a_policy_counts_each_witness_once_and_only_what_verifies() {
    // rule: TLOG-8
    let secret = log_secret();
    let (one, two, three) = (witness(1), witness(2), witness(3));
    let vkey = |witness: &WitnessSecret| witness.vkeys()[0].to_string();
    let text = format!(
        "# three, of which two\nwitness a {}\n\twitness b {}  http://b.example\nwitness c {}\n\ngroup g 2 a b c\nquorum g",
        vkey(&one),
        vkey(&two),
        vkey(&three)
    );
    let policy: WitnessPolicy = text.parse().unwrap();
    let signed = secret.sign(&checkpoint(7), at(5));
    let with = |witnesses: &[&WitnessSecret]| {
        let lines: Vec<String> = witnesses
            .iter()
            .map(|w| w.cosign(signed.checkpoint(), at(6)))
            .collect();
        signed.with_cosignatures(lines.iter().flat_map(|lines| lines.split_inclusive('\n')))
    };
    assert_eq!(policy.check(&signed), Err(Unwitnessed::TooFew(vec![])));
    let alone = with(&[&one, &one]);
    assert_eq!(
        policy.check(&alone),
        Err(Unwitnessed::TooFew(vec!["witness.example/w1".into()]))
    );
    assert_eq!(policy.check(&with(&[&one, &three])), Ok(()));
    // A cosignature on another tree spoils the note.
    let other = secret.sign(&checkpoint(8), at(5));
    let lines = two.cosign(other.checkpoint(), at(6));
    let spoiled = with(&[&one, &three]).with_cosignatures(lines.split_inclusive('\n'));
    assert_eq!(
        policy.check(&spoiled),
        Err(Unwitnessed::Bad("witness.example/w2".into()))
    );
    let none: WitnessPolicy = "quorum none\n".parse().unwrap();
    assert!(none.needs_none());
    assert_eq!(none.check(&signed), Ok(()));
}

#[test]
fn groups_of_groups_count_as_one_member_each() {
    // rule: TLOG-8
    let secret = log_secret();
    let witnesses = [witness(1), witness(2), witness(3)];
    let keys: Vec<String> = witnesses.iter().map(|w| w.vkeys()[1].to_string()).collect();
    let text = format!(
        "witness a {}\nwitness b {}\nwitness c {}\ngroup x any a b\ngroup y all x c\nquorum y\n",
        keys[0], keys[1], keys[2]
    );
    let policy: WitnessPolicy = text.parse().unwrap();
    let signed = secret.sign(&checkpoint(7), at(5));
    for cosigned in 0..8_usize {
        let chosen = (0..3).filter(|n| cosigned >> n & 1 == 1);
        let lines: Vec<String> = chosen
            .map(|n| witnesses[n].cosign(signed.checkpoint(), at(6)))
            .collect();
        let note =
            signed.with_cosignatures(lines.iter().flat_map(|lines| lines.split_inclusive('\n')));
        let enough = cosigned & 0b011 != 0 && cosigned & 0b100 != 0;
        assert_eq!(policy.check(&note).is_ok(), enough, "{cosigned:03b}");
    }
}

#[test]
fn a_policy_that_does_not_hold_is_refused_by_line() {
    // rule: TLOG-8
    let (one, two) = (witness(1), witness(2));
    let (a, b) = (one.vkeys()[0].to_string(), two.vkeys()[0].to_string());
    let log = log_secret().key().vkeys()[0].to_string();
    let fault = |text: &str| text.parse::<WitnessPolicy>().unwrap_err();
    let is = |text: String, line, expected| {
        assert_eq!(
            fault(&text),
            PolicyError {
                line,
                fault: expected
            },
            "{text}"
        )
    };
    is(String::new(), 0, PolicyFault::Quorum);
    is("quorum none\nquorum none\n".into(), 2, PolicyFault::Quorum);
    is("quorum w\n".into(), 1, PolicyFault::Unknown);
    is(
        format!("group g any a\nwitness a {a}\nquorum g\n"),
        1,
        PolicyFault::Unknown,
    );
    is(
        format!("witness a {a}\nwitness b {a}\nquorum a\n"),
        2,
        PolicyFault::Twice,
    );
    is(
        format!("witness a {a}\nwitness a {b}\nquorum a\n"),
        2,
        PolicyFault::Twice,
    );
    is(
        format!("witness none {a}\nquorum none\n"),
        1,
        PolicyFault::Reserved,
    );
    is(
        format!("witness a {a}\ngroup g all a a\nquorum g\n"),
        2,
        PolicyFault::MemberTwice,
    );
    is(
        format!("witness a {a}\ngroup g any a\ngroup h any a\nquorum g\n"),
        3,
        PolicyFault::MemberTwice,
    );
    is(
        format!("witness a {a}\ngroup g 2 a\nquorum g\n"),
        2,
        PolicyFault::Threshold,
    );
    is(
        format!("witness a {a}\ngroup g 0 a\nquorum g\n"),
        2,
        PolicyFault::Threshold,
    );
    is(
        format!("witness a {a}\ngroup g 01 a\nquorum g\n"),
        2,
        PolicyFault::Line,
    );
    is(
        format!("witness a {a}\ngroup g any\nquorum a\n"),
        2,
        PolicyFault::Line,
    );
    is("frobnicate\n".into(), 1, PolicyFault::Line);
    is(format!("witness a {log}\nquorum a\n"), 1, PolicyFault::Kind);
    is(format!("log {a}\nquorum none\n"), 1, PolicyFault::Kind);
    is(
        format!("log {log}\nlog {log}\nquorum none\n"),
        2,
        PolicyFault::Twice,
    );
    is("quorum none\r\n".into(), 0, PolicyFault::Control);
    is("#".repeat(17_000), 0, PolicyFault::TooLong);
    let many: String = (0..33)
        .map(|n| {
            let vkey = WitnessSecret::from_seeds("w", &[n; 32], &[n; 32])
                .unwrap()
                .vkeys()[0]
                .to_string();
            format!("witness w{n} {vkey}\n")
        })
        .collect();
    is(format!("{many}quorum w0\n"), 33, PolicyFault::TooMany);
    assert_eq!(
        format!("log {log}\nquorum none")
            .parse::<WitnessPolicy>()
            .unwrap()
            .logs()
            .len(),
        1
    );
}

/// The example of c2sp.org/tlog-policy with the keys of seven that exist.
fn example(log: &LogSecret, witnesses: &[WitnessSecret]) -> String {
    let vkey = |n: usize| &witnesses[n].vkeys()[n % 2];
    format!(
        "log {}

witness X1 {}
witness X2 {}
witness X3 {}
group X-witnesses 2 X1 X2 X3

witness Y1 {}
witness Y2 {}
witness Y3 {}
group Y-witnesses any Y1 Y2 Y3

group X-and-Y all X-witnesses Y-witnesses
quorum X-and-Y
",
        log.key().shard_vkeys(1)[0],
        vkey(0),
        vkey(1),
        vkey(2),
        vkey(3),
        vkey(4),
        vkey(5),
    )
}

#[test]
fn the_example_of_the_document_holds_for_two_of_the_one_and_one_of_the_other() {
    // rule: TLOG-8
    let secret = log_secret();
    let witnesses: Vec<WitnessSecret> = (1..=6).map(witness).collect();
    let policy: WitnessPolicy = example(&secret, &witnesses).parse().unwrap();
    assert_eq!((policy.logs().len(), policy.witnesses().len()), (1, 6));
    let signed = secret.sign(&checkpoint(7), at(5));
    let cosigned: Vec<String> = witnesses
        .iter()
        .map(|witness| witness.cosign(signed.checkpoint(), at(6)))
        .collect();
    for chosen in 0..64_u32 {
        let lines = (0..6).filter(|n| chosen >> n & 1 == 1);
        let note =
            signed.with_cosignatures(lines.flat_map(|n: usize| cosigned[n].split_inclusive('\n')));
        let (x, y) = (chosen & 0b111, chosen >> 3);
        let enough = x.count_ones() >= 2 && y != 0;
        assert_eq!(policy.check(&note).is_ok(), enough, "{chosen:06b}");
    }
}

#[test]
fn a_policy_that_names_logs_takes_the_checkpoints_of_those_only() {
    // rule: TLOG-8
    let secret = log_secret();
    let signed = secret.sign(&checkpoint(7), at(5));
    let check = |logs: &[String]| {
        let logs: String = logs.iter().map(|vkey| format!("log {vkey}\n")).collect();
        let policy: WitnessPolicy = format!("{logs}quorum none\n").parse().unwrap();
        policy.check(&signed)
    };
    let [ed25519, ml_dsa] = secret.key().shard_vkeys(1).map(|vkey| vkey.to_string());
    let stranger = LogSecret::from_seeds(secret.key().origin.clone(), &[1; 32], &[2; 32]).unwrap();
    let stranger = stranger.key().shard_vkeys(1)[0].to_string();
    let next = secret.key().shard_vkeys(2)[1].to_string();
    assert_eq!(check(&[]), Ok(()));
    assert_eq!(check(std::slice::from_ref(&ed25519)), Ok(()));
    assert_eq!(check(std::slice::from_ref(&ml_dsa)), Ok(()));
    assert_eq!(check(&[stranger.clone(), ed25519]), Ok(()));
    assert_eq!(check(&[stranger]), Err(Unwitnessed::OtherLog));
    // The key name is the origin of another shard.
    assert_eq!(check(&[next]), Err(Unwitnessed::OtherLog));
    // A signature that holds, under a name that is not the checkpoint's origin.
    let other = witness(1);
    let lines = other.cosign(signed.checkpoint(), at(6));
    let cosigned = signed.with_cosignatures(lines.split_inclusive('\n'));
    let policy = format!("log {}\nquorum none\n", other.vkeys()[1]);
    let policy: WitnessPolicy = policy.parse().unwrap();
    assert_eq!(policy.check(&cosigned), Err(Unwitnessed::OtherLog));
}

#[test]
fn a_policy_has_room_for_thirty_two_of_each_kind() {
    // rule: TLOG-8
    let vkey = |n: u8| witness(n).vkeys()[0].to_string();
    let text = |groups: u8| {
        let witnesses: String = (0..32)
            .map(|n| format!("witness w{n} {}\n", vkey(n)))
            .collect();
        let groups: String = (0..groups)
            .map(|n| match n {
                0..32 => format!("group g{n} any w{n}\n"),
                _ => format!("group g{n} any g{}\n", n - 1),
            })
            .collect();
        format!("{witnesses}{groups}quorum g0\n")
    };
    let policy: WitnessPolicy = text(32).parse().unwrap();
    assert_eq!(policy.witnesses().len(), 32);
    let error = text(33).parse::<WitnessPolicy>().unwrap_err();
    assert_eq!((error.line, error.fault), (65, PolicyFault::TooMany));
    // As deep as it can be: each group a member of the next.
    let mut deep = format!("witness w {}\ngroup g0 all w\n", vkey(1));
    for n in 1..32 {
        deep.push_str(&format!("group g{n} 1 g{}\n", n - 1));
    }
    let policy: WitnessPolicy = format!("{deep}quorum g31\n").parse().unwrap();
    let signed = log_secret().sign(&checkpoint(7), at(5));
    assert!(policy.check(&signed).is_err());
    let lines = witness(1).cosign(signed.checkpoint(), at(6));
    let note = signed.with_cosignatures(lines.split_inclusive('\n'));
    assert_eq!(policy.check(&note), Ok(()));
}

#[test]
fn characters_that_a_policy_may_not_have_are_refused_and_others_mean_themselves() {
    // rule: TLOG-8
    let a = witness(1).vkeys()[0].to_string();
    for control in (0..0x20_u8)
        .chain([0x7f])
        .filter(|byte| !b"\t\n".contains(byte))
    {
        let text = format!("# {}\nquorum none\n", char::from(control));
        let error = text.parse::<WitnessPolicy>().unwrap_err();
        assert_eq!(error.fault, PolicyFault::Control, "{control}");
    }
    // Space that is no ASCII space is a part of a name; letters that look alike are not alike.
    let kelvin = format!("witness \u{212a}\u{a0}x {a}\nquorum \u{212a}\u{a0}x");
    assert!(kelvin.parse::<WitnessPolicy>().is_ok());
    let other = format!("witness \u{212a} {a}\nquorum K\n");
    let error = other.parse::<WitnessPolicy>().unwrap_err();
    assert_eq!((error.line, error.fault), (2, PolicyFault::Unknown));
    let spaced =
        format!(" \t witness\t \ta   {a}\thttps://a.example \t\n\n \t\n\t# x\n  quorum a  ");
    assert!(spaced.parse::<WitnessPolicy>().is_ok());
}
