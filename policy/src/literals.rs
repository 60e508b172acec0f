//! Values of the request as the engine's literals.

use std::cell::RefCell;
use std::collections::HashMap;
use std::net::IpAddr;

use cedar_policy::RestrictedExpression;

/// A text; it can hold anything, for it is never parsed.
pub(crate) fn string(value: &str) -> RestrictedExpression {
    RestrictedExpression::new_string(value.to_owned())
}

/// Whole seconds, UTC, within the calendar (POL-7).
///
/// # Errors
/// One line when no calendar has the time.
pub(crate) fn datetime(unix: u64) -> Result<RestrictedExpression, String> {
    let timestamp = i64::try_from(unix)
        .ok()
        .and_then(|seconds| jiff::Timestamp::from_second(seconds).ok())
        .ok_or_else(|| format!("{unix} seconds after 1970 is beyond the calendar"))?;
    Ok(kept(Literal::Datetime(unix), || {
        RestrictedExpression::new_datetime(timestamp.to_string())
    }))
}

/// POL-7: a listener on a dual-stack socket sees IPv4 callers as `::ffff:a.b.c.d`, which no IPv4
/// range in a policy would match: neither the one that permits nor the one that forbids.
pub(crate) fn ip(address: IpAddr) -> RestrictedExpression {
    let address = address.to_canonical();
    kept(Literal::Ip(address), || {
        RestrictedExpression::new_ip(address.to_string())
    })
}

#[derive(Clone, Copy, PartialEq, Eq, Hash)]
enum Literal {
    Datetime(u64),
    Ip(IpAddr),
}

/// How many literals a thread keeps before it begins anew.
const MOST_KEPT: usize = 512;

thread_local! {
    static KEPT: RefCell<HashMap<Literal, RestrictedExpression>> = RefCell::new(HashMap::new());
}

/// To make one of these, Cedar runs its whole parser over the name of the function that reads it,
/// which takes longer than a decision does. A copy costs a reference count, and the same few come
/// again: this second, the launch times and addresses of the nodes at work.
fn kept(literal: Literal, make: impl FnOnce() -> RestrictedExpression) -> RestrictedExpression {
    KEPT.with_borrow_mut(|kept| {
        if kept.len() >= MOST_KEPT && !kept.contains_key(&literal) {
            kept.clear();
        }
        kept.entry(literal).or_insert_with(make).clone()
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_kept_is_bounded_and_never_mixed_up() {
        for round in 0..3 {
            for unix in 0..MOST_KEPT as u64 {
                let made = datetime(unix).expect("within the calendar");
                let text = jiff::Timestamp::from_second(unix as i64)
                    .expect("a time")
                    .to_string();
                assert!(format!("{made:?}").contains(&text), "{round}: {made:?}");
            }
            let address = IpAddr::from([10, 0, 0, round]);
            assert!(format!("{:?}", ip(address)).contains(&address.to_string()));
            assert!(KEPT.with_borrow(HashMap::len) <= MOST_KEPT);
        }
    }
}
