//! placeholder of the lead, to be overwritten
use ticket_format::ids::KekId;
use ticket_format::time::Timestamp;
#[derive(Default)]
pub struct Counts {
    pub wraps: u64,
    pub made: u64,
    pub dependants: [u8; 32],
    pub last_used: Option<Timestamp>,
}
#[derive(Default)]
pub struct Inventory;
impl Inventory {
    pub fn counts(&self, _: KekId) -> Counts {
        Counts::default()
    }
    pub async fn settled(&self) {}
    pub async fn forget(&self, _: KekId) {}
}
