//! What is remembered, where, and for how long.

use super::*;

#[tokio::test]
async fn the_first_checkpoint_is_on_disk_before_its_receipt_is_believed_and_later_ones_in_time() {
    // rule: TLOG-5
    let (_keep, dir) = place();
    let shows = Shows::start(test_log());
    let logs = paced(&dir);
    let link = shows.link_of(&logs).await;
    link.believe(&shows.append(1), None).await.unwrap();
    assert_eq!(remembered(&dir), Some((1, 1)));
    assert!(shows.asked().is_empty(), "what comes first is believed");
    let file = logs.list().unwrap().remove(0).path;
    let (stat, parent) = (file.metadata().unwrap(), dir.metadata().unwrap());
    assert_eq!((stat.mode() & 0o777, parent.mode() & 0o777), (0o600, 0o700));
    // A redemption costs no sync: the next ones are written down together.
    for number in 2..20 {
        link.believe(&shows.append(number), None).await.unwrap();
    }
    assert_eq!(file.metadata().unwrap().ino(), stat.ino());
    link.close().await.unwrap();
    assert_eq!(remembered(&dir), Some((1, 19)));
    assert_ne!(file.metadata().unwrap().ino(), stat.ino());
    // Later ones when it is time, and then they are proven of one log too.
    let logs = Logs::paced(&dir, Duration::ZERO);
    let link = shows.link_of(&logs).await;
    for number in 20..23 {
        link.believe(&shows.append(number), None).await.unwrap();
        assert_eq!(remembered(&dir), Some((1, number.into())));
        assert_eq!(Logs::at(&dir).list().unwrap()[0].untied, 0);
    }
}

#[tokio::test]
async fn what_is_remembered_must_be_whole_private_and_signed_by_the_pinned_keys() {
    // rule: TLOG-6
    let (_keep, dir) = place();
    let shows = Shows::start(test_log());
    shows.visit(&dir, 1).await.unwrap();
    // The same name under other keys is another log: somebody has exchanged them.
    let other = shows.log.lock().unwrap().signed_by(2);
    *shows.log.lock().unwrap() = other;
    let failed = failure(shows.link(&dir).await.proven().await.unwrap_err());
    assert!(failed.why.contains("pinned keys"), "{failed}");
    let back = shows.log.lock().unwrap().signed_by(1);
    *shows.log.lock().unwrap() = back;
    shows.link(&dir).await.proven().await.unwrap();

    let file = Logs::at(&dir).list().unwrap().remove(0).path;
    let good = std::fs::read(&file).unwrap();
    for bad in [
        &good[..good.len() - 1],
        &good[..0],
        &[&good[..], &[0]].concat(),
    ] {
        ::store::files::write_private(&file, bad).unwrap();
        let error = shows.link(&dir).await.proven().await.unwrap_err();
        assert!(matches!(error, Error::Checkpoints(_)), "{error:?}");
        assert!(Logs::at(&dir).list().is_err());
    }
    // A note that nobody signed.
    let text = String::from_utf8_lossy(&good).into_owned();
    let at = text.find("\u{2014} ").unwrap();
    let mut forged = good.clone();
    let letter = good[..]
        .windows(3)
        .rposition(|w| w == b"AAA")
        .unwrap_or(at + 200);
    forged[letter] = if forged[letter] == b'B' { b'C' } else { b'B' };
    ::store::files::write_private(&file, &forged).unwrap();
    assert!(shows.link(&dir).await.proven().await.is_err());
    ::store::files::write_private(&file, &good).unwrap();
    let open = std::os::unix::fs::PermissionsExt::from_mode(0o644);
    std::fs::set_permissions(&file, open).unwrap();
    let error = shows.link(&dir).await.proven().await.unwrap_err();
    assert!(matches!(error, Error::File(_)), "{error:?}");
}

#[tokio::test]
async fn so_many_logs_are_remembered_and_no_more() {
    let (_keep, dir) = place();
    let shows = Shows::start(test_log());
    ::store::files::private_dir(&dir).unwrap();
    for number in 0..super::super::store::LOGS {
        std::fs::write(dir.join(format!("{number:032x}")), b"").unwrap();
    }
    let error = shows.visit(&dir, 1).await.unwrap_err();
    assert!(matches!(error, Error::TooManyLogs(_)), "{error:?}");
    std::fs::remove_file(dir.join(format!("{:032x}", 0))).unwrap();
    shows.visit(&dir, 1).await.unwrap();
}

#[tokio::test]
async fn a_log_that_a_person_forgets_while_a_job_runs_stays_forgotten() {
    // rule: TLOG-6
    let (_keep, dir) = place();
    let shows = Shows::start(test_log());
    shows.log.lock().unwrap().grow(4);
    let logs = paced(&dir);
    let link = shows.link_of(&logs).await;
    link.believe(&shows.append(1), None).await.unwrap();
    let origin = Logs::at(&dir).list().unwrap().remove(0).origin;
    assert!(Logs::at(&dir).forget(&origin).unwrap());
    link.close().await.unwrap();
    // Its server has begun anew.
    *shows.log.lock().unwrap() = test_log();
    let link = shows.link_of(&logs).await;
    link.believe(&shows.append(2), None).await.unwrap();
    link.close().await.unwrap();
    assert_eq!(remembered(&dir), Some((1, 1)));
}

#[test]
fn the_largest_file_of_a_log_can_be_read_back() {
    use ticket_format::cbor::{Decode as _, Encode as _};
    let mut log = test_log();
    let mut kept = super::super::store::Kept::nothing(log.key().origin.clone());
    log.grow(1);
    let one = super::super::tips::Known::of(&log.checkpoint());
    for size in 0..super::super::tips::MOST as u64 {
        let note = one.note.replace("\n1\n", &format!("\n{size}\n"));
        let known = super::super::tips::Known::of_file(&note).unwrap();
        assert_eq!(known.checkpoint.size, size);
        kept.tips.add(known).unwrap();
    }
    kept.failed = Some(super::super::store::Failed {
        why: "x".repeat(1_024),
        shown: Some("x".repeat(ticket_format::limits::NOTE)),
    });
    let (_keep, dir) = place();
    let store = super::super::store::Store::new(dir);
    let origin = kept.origin.clone();
    store.change(&origin, |file| *file = kept.clone()).unwrap();
    assert_eq!(store.read(&origin).unwrap(), kept);
    let bytes = kept.to_cbor();
    for cut in (0..bytes.len()).step_by(997) {
        assert!(super::super::store::Kept::from_cbor(&bytes[..cut], cut).is_err());
    }
}
