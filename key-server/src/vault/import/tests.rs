//! Material is opened by the key that it was wrapped to.

use std::sync::LazyLock;

use super::*;
use getrandom::SysRng;
use rand_core::UnwrapErr;
use ticket_format::keys::TlsSecret;

const MAPS: DatasetId = DatasetId([1; 16]);

fn server() -> TlsKey {
    TlsSecret::from_seed(&[1; 32]).public()
}

impl ImportKeys {
    /// Keys with a short RSA key, the same each time: they take no time to make.
    pub(crate) fn cheap(dataset: DatasetId, expires: Timestamp) -> Self {
        static KEY: LazyLock<PrivateDecryptingKey> =
            LazyLock::new(|| PrivateDecryptingKey::generate(KeySize::Rsa2048).unwrap());
        Self {
            id: ImportId::random(&mut UnwrapErr(SysRng)),
            dataset,
            expires,
            seed: Locked::zeroed(),
            rsa: OaepPrivateDecryptingKey::new(KEY.clone()).unwrap(),
            rsa_public: Vec::new(),
        }
    }
}

#[test]
fn material_is_opened_by_the_key_that_it_was_wrapped_to_and_checked() {
    // rule: IMP-1, IMP-2
    let rng = &mut UnwrapErr(SysRng);
    let keys = ImportKeys::generate(MAPS, Timestamp::default(), rng).unwrap();
    let begun = keys.begun();
    assert_eq!(begun.expires, Timestamp::default().plus(86_400));
    let mut material = [3; 32];
    material[0] = 4;
    let place = ImportPlace {
        realm: "test",
        server: server(),
        dataset: MAPS,
        import: begun.import,
    };
    let hpke = place.wrap(&begun.key, &material, rng).unwrap();
    let rsa = transfer::rsa_wrap(&begun.rsa, &material).unwrap();
    let open = |how, wrapped: &[u8]| keys.open("test", server(), how, wrapped);
    for (how, wrapped) in [(ImportHow::Hpke, &hpke), (ImportHow::RsaOaep, &rsa)] {
        let opened = open(how, wrapped).unwrap();
        assert_eq!(opened.check(&transfer::commitment(&material)), Ok(()));
        assert_eq!(opened.check(&[0; 32]), Err(BadMaterial::Commitment));
        let mut damaged = wrapped.clone();
        *damaged.last_mut().unwrap() ^= 1;
        assert!(open(how, &damaged).is_none());
        damaged.pop();
        assert!(open(how, &damaged).is_none());
    }
    assert!(open(ImportHow::RsaOaep, &hpke).is_none());
    assert!(open(ImportHow::Hpke, &rsa).is_none());
    assert!(
        keys.open("other", server(), ImportHow::Hpke, &hpke)
            .is_none()
    );
    let weak = transfer::rsa_wrap(&begun.rsa, &[7; 32]).unwrap();
    let weak = open(ImportHow::RsaOaep, &weak).unwrap();
    assert_eq!(
        weak.check(&transfer::commitment(&[7; 32])),
        Err(BadMaterial::Guessable)
    );
    assert_eq!(format!("{weak:?}"), "Material(..)");
}
