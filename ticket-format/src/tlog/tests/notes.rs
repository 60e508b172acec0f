//! Signed notes, verifier keys and the examples of the C2SP documents.

use aws_lc_rs::signature::{ML_DSA_44_SIGNING, PqdsaKeyPair};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use ed25519_dalek::{Signer as _, SigningKey};
use proptest::prelude::*;

use super::note::{
    BadSignature, ML_DSA_SIGNATURE, cosignature_v1, cosigned_message, signature_lines, split,
};
use super::*;

/// c2sp.org/tlog-cosignature, the example in its introduction.
const COSIGNED: &str = "example.com/behind-the-sofa
20852163
CsUYapGGPo4dkMgIAUqom/Xajj7h2fB2MPA3j2jxq2I=

\u{2014} example.com/behind-the-sofa Az3grlgtzPICa5OS8npVmf1Myq/5IZniMp+ZJurmRDeOoRDe4URYN7u5/Zhcyv2q1gGzGku9nTo+zyWE+xeMcTOAYQ8=
\u{2014} witness.example.com/w1 jWbPPwAAAABkGFDLEZMHwSRaJNiIDoe9DYn/zXcrtPHeolMI5OWXEhZCB9dlrDJsX3b2oyin1nPZqhf5nNo0xUe+mbIUBkBIfZ+qnA==
";

/// c2sp.org/signed-note, the example in its introduction: empty lines belong to the text.
const POEM: &str = "Ognuno sta solo sul cuor della terra
trafitto da un raggio di sole:

ed \u{e8} subito sera.

\u{2014} quasimodo.example/salvatore NnugSzTjtVAewIS+Z/iJhUPeFDkO/5QQ2i5ddnGITLlC+EhfLW9oJKONrMouFSQU0xMcXxj99ihAQwaqP3ZekRwNtIc=
";

#[test]
fn the_examples_of_the_documents_are_read_as_they_are_meant() {
    // rule: TLOG-2
    let (text, lines) = split(COSIGNED).unwrap();
    assert_eq!(text.lines().count(), 3);
    assert!(text.ends_with("q2I=\n"));
    let read: Vec<_> = lines
        .iter()
        .map(|line| (line.name, line.id, line.signature.len()))
        .collect();
    assert_eq!(
        read,
        [
            ("example.com/behind-the-sofa", [3, 0x3d, 0xe0, 0xae], 64),
            ("witness.example.com/w1", [0x8d, 0x66, 0xcf, 0x3f], 8 + 64),
        ]
    );
    assert_eq!(
        lines[1].signature[..8],
        1_679_315_147_u64.to_be_bytes(),
        "the time of the signed message in the same document"
    );
    assert_eq!(
        cosignature_v1(1_679_315_147, text),
        "cosignature/v1
time 1679315147
example.com/behind-the-sofa
20852163
CsUYapGGPo4dkMgIAUqom/Xajj7h2fB2MPA3j2jxq2I=
"
    );
    // A log that is none of ours.
    assert!(Checkpoint::from_text(text).is_err());
    let (text, lines) = split(POEM).unwrap();
    assert!(text.ends_with("sole:\n\ned \u{e8} subito sera.\n"));
    assert_eq!(lines.len(), 1);
    assert_eq!(lines[0].name, "quasimodo.example/salvatore");
}

#[test]
fn the_message_of_an_ml_dsa_cosignature_is_laid_out_as_written() {
    // rule: TLOG-2
    let mut expected = b"subtree/v1\n\0".to_vec();
    expected.extend_from_slice(b"\x06w.test");
    expected.extend_from_slice(&[0, 0, 0, 0, 0x64, 0x18, 0x50, 0xcb]);
    expected.extend_from_slice(b"\x05log/1");
    expected.extend_from_slice(&[0; 8]);
    expected.extend_from_slice(&[0, 0, 0, 0, 1, 0x3e, 0x2d, 0xc3]);
    expected.extend_from_slice(&[7; 32]);
    let message = cosigned_message("w.test", 1_679_315_147, "log/1", 20_852_163, &[7; 32]);
    assert_eq!(message, expected);
}

#[test]
fn a_note_of_another_form_is_refused() {
    // rule: TLOG-2
    let line = "\u{2014} a.example AAAAAAE=\n";
    let note = |text: &str| format!("text\n\n{text}");
    assert!(split(&note(line)).is_ok());
    assert!(split(&note(&line.repeat(64))).is_ok());
    let fault = |text: &str| split(text).unwrap_err();
    assert_eq!(fault(&note(&line.repeat(65))), NotANote::TooMany);
    for control in ['\r', '\t', '\0', '\u{1f}'] {
        let text = format!("te{control}xt\n\n{line}");
        assert_eq!(fault(&text), NotANote::Control, "{control:?}");
    }
    for unsigned in ["", "\n", "text\n", "text\n\n", &format!("text\n{line}")] {
        assert_eq!(fault(unsigned), NotANote::Unsigned, "{unsigned:?}");
    }
    let long = format!("{}\n\n{line}", "x".repeat(crate::limits::NOTE));
    assert_eq!(fault(&long), NotANote::TooLong);
    for wrong in [
        // No end, no dash, another dash, other spaces.
        "\u{2014} a.example AAAAAAE=",
        "a.example AAAAAAE=\n",
        "- a.example AAAAAAE=\n",
        "\u{2013} a.example AAAAAAE=\n",
        "\u{2014}a.example AAAAAAE=\n",
        "\u{2014}  a.example AAAAAAE=\n",
        "\u{2014} a.example  AAAAAAE=\n",
        "\u{2014} a.example AAAAAAE= \n",
        "\u{2014}\u{a0}a.example AAAAAAE=\n",
        // No name, a plus sign, white space of Unicode.
        "\u{2014} AAAAAAE=\n",
        "\u{2014}  AAAAAAE=\n",
        "\u{2014} a+b AAAAAAE=\n",
        "\u{2014} a\u{2003}b AAAAAAE=\n",
        "\u{2014} a\u{3000} AAAAAAE=\n",
        // Base64 with no padding, too much of it, bits left over, the URL's alphabet; too short.
        "\u{2014} a.example AAAAAAE\n",
        "\u{2014} a.example AAAAAAE==\n",
        "\u{2014} a.example AAAAAAF=\n",
        "\u{2014} a.example AAAAAA-_\n",
        "\u{2014} a.example AAAAAA==\n",
        "\u{2014} a.example AAAA\n",
        "\u{2014} a.example \n",
        "\u{2014} a.example\n",
    ] {
        assert_eq!(fault(&note(wrong)), NotANote::Line, "{wrong:?}");
        assert_eq!(fault(&note(&format!("{line}{wrong}"))), NotANote::Line);
        assert_eq!(signature_lines(wrong), Err(NotANote::Line));
    }
}

#[test]
fn sixteen_signatures_beside_the_log_s_own_are_no_hindrance() {
    // rule: TLOG-2
    let secret = log_secret();
    let signed = secret.sign(&checkpoint(7), at(5));
    let [ed25519, ml_dsa] = secret.key().shard_vkeys(1);
    let line = |name: &str, id: [u8; 4], byte: u8| {
        let bytes = [&id[..], &[byte; 72]].concat();
        format!("\u{2014} {name} {}\n", BASE64.encode(bytes))
    };
    let mut lines: Vec<String> = (0..14)
        .map(|n| line(&format!("w{n}.example"), [n; 4], n))
        .collect();
    // The log's name with another id, and its ids under another name, are strangers too.
    lines.push(line(ed25519.name(), [9; 4], 9));
    lines.push(line("other.example", ed25519.key_id(), 9));
    lines.push(line("other.example", ml_dsa.key_id(), 9));
    let note = signed.with_cosignatures(lines.iter().map(String::as_str));
    assert_eq!(split(note.note()).unwrap().1.len(), 2 + 17);
    let verified = secret.key().verify(note.note()).unwrap();
    assert_eq!(verified.note(), note.note());
    // Name and id of a known key, and a signature that is none: the note is spoiled.
    for key in [ed25519, ml_dsa] {
        let bad = line(key.name(), key.key_id(), 9);
        let note = signed.with_cosignatures([bad.as_str()]);
        assert!(matches!(
            secret.key().verify(note.note()),
            Err(CheckpointError::Bad(_))
        ));
    }
}

#[test]
fn a_note_takes_each_cosignature_once_and_nothing_else() {
    let signed = log_secret().sign(&checkpoint(7), at(5));
    let cosigned = witness(1).cosign(signed.checkpoint(), at(6));
    let lines: Vec<&str> = cosigned.split_inclusive('\n').collect();
    let once = signed.with_cosignatures(lines.iter().copied());
    let twice = once.with_cosignatures(lines.iter().copied());
    assert_eq!(once, twice);
    let unended = lines[0].trim_end();
    // The end of a line that is there is no line that is there.
    let tail = &lines[0][3..];
    for odd in [
        unended,
        tail,
        "",
        "\n",
        &cosigned,
        "x\n\n\u{2014} y AAAAAAE=\n",
    ] {
        assert_eq!(once.with_cosignatures([odd]), once, "{odd:?}");
    }
}

#[test]
fn a_time_beyond_the_signed_range_is_refused() {
    // rule: TLOG-2
    let (checkpoint, witness) = (checkpoint(7), witness(1));
    let [ed25519, ml_dsa] = witness.vkeys();
    let verify = |time: u64| {
        let message = cosignature_v1(time, &checkpoint.text());
        let signature = SigningKey::from_bytes(&[1; 32]).sign(message.as_bytes());
        let first = [&time.to_be_bytes()[..], &signature.to_bytes()].concat();
        let Checkpoint { shard, size, root } = &checkpoint;
        let message = cosigned_message(ml_dsa.name(), time, &shard.to_string(), *size, root);
        let key = PqdsaKeyPair::from_seed(&ML_DSA_44_SIGNING, &[101; 32]).unwrap();
        let mut second = time.to_be_bytes().to_vec();
        second.resize(8 + ML_DSA_SIGNATURE, 0);
        key.sign(&message, &mut second[8..]).unwrap();
        [
            ed25519.verify(&checkpoint, &first),
            ml_dsa.verify(&checkpoint, &second),
        ]
    };
    for time in [0, 1, 1 << 62, (1 << 63) - 1] {
        assert_eq!(verify(time), [Ok(Some(time)); 2]);
    }
    for time in [1 << 63, u64::MAX] {
        assert_eq!(verify(time), [Err(BadSignature); 2]);
    }
}

#[test]
fn a_verifier_key_is_read_back_and_no_other_text_is() {
    // rule: TLOG-2
    let secret = log_secret();
    let keys = [secret.key().vkeys(), witness(1).vkeys().clone()].concat();
    for key in keys {
        let text = key.to_string();
        assert_eq!(text.parse(), Ok(key.clone()));
        let [name, id, base64] = text.splitn(3, '+').collect::<Vec<_>>()[..] else {
            panic!("three parts")
        };
        let fault = |text: String| text.parse::<Vkey>().unwrap_err();
        assert_eq!(fault(format!("other+{id}+{base64}")), NotAVkey::Id);
        assert_eq!(fault(format!("{name}+00000000+{base64}")), NotAVkey::Id);
        assert_eq!(fault(format!("{name}+{id}0+{base64}")), NotAVkey::Id);
        let spaced = format!("{name} +{id}+{base64}");
        assert_eq!(fault(spaced), NotAVkey::Shape);
        assert_eq!(fault(format!("+{id}+{base64}")), NotAVkey::Shape);
        assert_eq!(fault(format!("{name}+{id}")), NotAVkey::Shape);
        assert_eq!(fault(format!("{name}+{id}+")), NotAVkey::Shape);
        assert_eq!(fault(format!("{text}=")), NotAVkey::Shape);
        assert_eq!(fault(format!("{text}\n")), NotAVkey::Shape);
        assert_eq!(
            fault(format!("{name}+{id}+{}", "A".repeat(5_000))),
            NotAVkey::Shape
        );
        let mut bytes = BASE64.decode(base64).unwrap();
        for kind in [0, 2, 3, 5, 7, 0xff] {
            bytes[0] = kind;
            let text = format!("{name}+{id}+{}", BASE64.encode(&bytes));
            assert_eq!(fault(text), NotAVkey::Kind);
        }
        bytes[0] = key.kind() as u8;
        let longer = BASE64.encode([&bytes[..], &[0]].concat());
        assert_eq!(fault(format!("{name}+{id}+{longer}")), NotAVkey::Key);
        let shorter = BASE64.encode(&bytes[..bytes.len() - 1]);
        assert_eq!(fault(format!("{name}+{id}+{shorter}")), NotAVkey::Key);
    }
    // Of small order: it would verify what nobody signed.
    for kind in [VkeyKind::Ed25519, VkeyKind::CosignatureEd25519] {
        let mut identity = [0; 32];
        identity[0] = 1;
        assert_eq!(Vkey::new("a", kind, &identity), Err(NotAVkey::Key));
    }
}

#[test]
fn a_log_s_keys_are_read_from_its_two_verifier_keys_and_from_no_other_two() {
    // rule: TLOG-2
    let key = log_secret().key().clone();
    let [ed25519, ml_dsa] = key.vkeys().map(|vkey| vkey.to_string());
    assert_eq!(LogKey::from_vkeys(&ed25519, &ml_dsa), Ok(key));
    let swapped = LogKey::from_vkeys(&ml_dsa, &ed25519);
    assert_eq!(swapped, Err(NotAVkey::Kind));
    let [cosigns, other] = witness(1).vkeys().clone().map(|vkey| vkey.to_string());
    assert_eq!(LogKey::from_vkeys(&cosigns, &other), Err(NotAVkey::Kind));
    assert_eq!(LogKey::from_vkeys(&ed25519, &other), Err(NotAVkey::Shape));
    assert!(LogKey::from_vkeys(&ed25519, "").is_err());
}

proptest! {
    #[test]
    fn no_text_whatever_upsets_a_parser(text in "(\u{2014} |[a-z/+ 0-9=\n\u{e8}\u{2003}]|\n\n|AAAAAAE=|index |quorum |group |c2sp.org/tlog-proof@v1\n){0,40}") {
        let _ = split(&text);
        let _ = signature_lines(&text);
        let _ = Checkpoint::from_text(&text);
        let _ = Checkpoint::of_note_unverified(&text);
        let _ = text.parse::<Vkey>();
        let _ = text.parse::<ShardName>();
        let _ = text.parse::<WitnessPolicy>();
        if let Ok(proof) = text.parse::<Proof>() {
            prop_assert_eq!(proof.to_string(), text);
        }
    }

    #[test]
    fn a_checkpoint_s_text_is_read_back(number in 1..=u64::MAX, size: u64, root: [u8; 32]) {
        let shard = log_secret().key().origin.shard(number);
        let checkpoint = Checkpoint { shard, size, root };
        prop_assert_eq!(Checkpoint::from_text(&checkpoint.text()), Ok(checkpoint));
    }
}

#[test]
fn a_checkpoint_s_text_of_another_form_is_refused() {
    // rule: TLOG-2
    let good = checkpoint(7).text();
    let lines: Vec<&str> = good.lines().collect();
    let (shard, root) = (lines[0], lines[2]);
    for wrong in [
        format!("{shard}\n07\n{root}\n"),
        format!("{shard}\n+7\n{root}\n"),
        format!("{shard}\n-7\n{root}\n"),
        format!("{shard}\n 7\n{root}\n"),
        format!("{shard}\n7 \n{root}\n"),
        format!("{shard}\n\n{root}\n"),
        format!("{shard}\n18446744073709551616\n{root}\n"),
        format!("{shard}\n7\n{root}"),
        format!("{shard}\n7\n{root}\n\n"),
        format!("{shard}\n7\n{root}\nextension\n"),
        format!("{shard}\n7\n{}\n", root.trim_end_matches('=')),
        format!("{shard}\n7\n{}\n", BASE64.encode([6; 31])),
        format!("{shard}\n7\n{}\n", BASE64.encode([6; 33])),
        format!("{shard}\n7\n"),
        format!("7\n{root}\n"),
        format!("{shard} \n7\n{root}\n"),
        format!("\n{good}"),
        String::new(),
    ] {
        assert!(Checkpoint::from_text(&wrong).is_err(), "{wrong:?}");
    }
}
