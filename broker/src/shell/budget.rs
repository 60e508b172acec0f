//! What each node was granted of each dataset lately: a cap over all its tickets (ISS-4).

use std::collections::VecDeque;

use dashmap::DashMap;
use ticket_format::ids::{DatasetId, NodeId};
use ticket_format::time::Timestamp;

/// Grants of one node and dataset, summed by minute.
#[derive(Debug, Default)]
struct Window {
    minutes: VecDeque<(u64, u64)>,
    sum: u64,
}

impl Window {
    fn forget(&mut self, before: Timestamp) {
        while let Some((_, amount)) = self
            .minutes
            .pop_front_if(|(minute, _)| *minute < before.seconds() / 60)
        {
            self.sum = self.sum.saturating_sub(amount);
        }
    }

    fn add(&mut self, at: Timestamp, amount: u64) {
        let minute = at.seconds() / 60;
        match self.minutes.back_mut() {
            Some((last, sum)) if *last >= minute => *sum = sum.saturating_add(amount),
            _ => self.minutes.push_back((minute, amount)),
        }
        self.sum = self.sum.saturating_add(amount);
    }
}

/// The sums. Rebuilt from the audit log at start.
#[derive(Debug)]
pub(crate) struct Budgets {
    window: u64,
    granted: DashMap<(NodeId, DatasetId), Window>,
}

impl Budgets {
    pub(crate) fn new(window: u64) -> Self {
        Self {
            window,
            granted: DashMap::new(),
        }
    }

    /// Adds a grant that was recorded earlier.
    pub(crate) fn replay(&self, node: NodeId, dataset: DatasetId, amount: u64, at: Timestamp) {
        self.granted
            .entry((node, dataset))
            .or_default()
            .add(at, amount);
    }

    /// Reserves as much of `wanted` as `cap` leaves; none when nothing is left.
    pub(crate) fn reserve(
        &self,
        node: &NodeId,
        dataset: DatasetId,
        wanted: u64,
        cap: u64,
        now: Timestamp,
    ) -> Option<u64> {
        // rule: ISS-4
        let mut window = self.granted.entry((node.clone(), dataset)).or_default();
        window.forget(now.minus(self.window));
        let granted = wanted.min(cap.saturating_sub(window.sum));
        if granted == 0 {
            return None;
        }
        window.add(now, granted);
        Some(granted)
    }

    /// Gives back what was reserved for a ticket that was not issued.
    pub(crate) fn release(&self, node: &NodeId, dataset: DatasetId, amount: u64) {
        if let Some(mut window) = self.granted.get_mut(&(node.clone(), dataset)) {
            window.sum = window.sum.saturating_sub(amount);
            if let Some((_, last)) = window.minutes.back_mut() {
                *last = last.saturating_sub(amount);
            }
        }
    }

    /// Forgets what is out of the window.
    pub(crate) fn prune(&self, now: Timestamp) {
        self.granted.retain(|_, window| {
            window.forget(now.minus(self.window));
            !window.minutes.is_empty()
        });
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_nodes_tickets_share_one_budget_that_comes_back_with_time() {
        // rule: ISS-4
        let node: NodeId = "ec2/123456789012/eu-west-1/i-0123456789abcdef0"
            .parse()
            .unwrap();
        let (dataset, budgets) = (DatasetId([1; 16]), Budgets::new(3_600));
        let at = Timestamp::from_seconds;
        assert_eq!(
            budgets.reserve(&node, dataset, 60, 100, at(6_000)),
            Some(60)
        );
        assert_eq!(
            budgets.reserve(&node, dataset, 60, 100, at(6_600)),
            Some(40)
        );
        assert_eq!(budgets.reserve(&node, dataset, 1, 100, at(6_600)), None);
        assert_eq!(
            budgets.reserve(&node, DatasetId([2; 16]), 1, 100, at(6_600)),
            Some(1)
        );
        budgets.release(&node, dataset, 40);
        assert_eq!(
            budgets.reserve(&node, dataset, 50, 100, at(6_660)),
            Some(40)
        );
        assert_eq!(
            budgets.reserve(&node, dataset, 100, 100, at(6_000 + 3_660)),
            Some(60)
        );
        budgets.prune(at(20_000));
        assert!(budgets.granted.is_empty());
    }

    #[test]
    fn cve_2025_11621_one_instance_id_in_two_accounts_or_regions_has_two_budgets() {
        // rule: ISS-4
        let (dataset, budgets) = (DatasetId([1; 16]), Budgets::new(3_600));
        let at = Timestamp::from_seconds(6_000);
        for place in [
            "123456789012/eu-west-1",
            "123456789013/eu-west-1",
            "123456789012/eu-west-2",
        ] {
            let node: NodeId = format!("ec2/{place}/i-0123456789abcdef0").parse().unwrap();
            assert_eq!(
                budgets.reserve(&node, dataset, 200, 100, at),
                Some(100),
                "{place}"
            );
            assert_eq!(budgets.reserve(&node, dataset, 1, 100, at), None, "{place}");
        }
    }
}
