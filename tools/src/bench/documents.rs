//! Identity documents for load. The real ones are of a few instances only; these are of as many as
//! are needed, in the very shape of the real ones, signed by a key made for this run whose
//! certificate the broker is configured with.

// One writer of test documents: the verifier's own tests use the same.
#[path = "../../../ticket-format/tests/iid_support/mod.rs"]
mod forge;

use ticket_format::iid::RegionKeys;
use ticket_format::time::Timestamp;

/// The region whose key this process holds.
pub(crate) const REGION: &str = forge::REGION;
/// The account of all instances.
pub(crate) const ACCOUNT: &str = "123456789012";

/// The region's certificate in PEM, for the broker's table.
pub(crate) fn certificate() -> String {
    forge::test_certificate()
}

/// The table of this region alone.
pub(crate) fn region_keys() -> RegionKeys {
    forge::test_keys()
}

/// The identity proof of the instance of this number, as the metadata service would serve it.
pub(crate) fn proof(instance: u64, launched: Timestamp) -> String {
    let document = serde_json::json!({
        "accountId": ACCOUNT,
        "architecture": "x86_64",
        "availabilityZone": format!("{REGION}a"),
        "billingProducts": null,
        "devpayProductCodes": null,
        "marketplaceProductCodes": null,
        "imageId": "ami-0cbde744623b7506b",
        "instanceId": format!("i-{instance:017x}"),
        "instanceType": "m7i.large",
        "kernelId": null,
        "pendingTime": launched.to_string(),
        "privateIp": "10.0.0.1",
        "ramdiskId": null,
        "region": REGION,
        "version": "2017-09-30",
    });
    forge::Proof::of(&format!("{document:#}")).text()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_document_made_for_load_passes_the_brokers_verifier() {
        let launched = Timestamp::from_seconds(1_795_372_800);
        let proof = proof(0xabc, launched);
        let document = ticket_format::iid::verify(proof.as_bytes(), &region_keys()).unwrap();
        assert_eq!(document.instance_id(), "i-00000000000000abc");
        assert_eq!(document.account_id(), ACCOUNT);
        assert_eq!(document.pending_time(), launched.seconds());
    }
}
