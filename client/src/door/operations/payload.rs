//! Payloads of up to 4 KB, and what is encrypted anew.

use aws_lc_rs::aead::{AES_256_GCM, Aad, LessSafeKey, Nonce, UnboundKey};
use serde_json::Value;
use ticket_format::secret::Dek;
use ticket_format::ticket::Action;
use zeroize::Zeroizing;

use super::data_keys::{Form, expand, pkcs8};
use super::{Call, JobKeys, SYMMETRIC, allowed, base64, object, of_form};
use crate::door::blob::Blob;
use crate::door::fault::Fault;
use crate::door::keys::{JobDataset, Named};
use crate::door::members::Members;

/// The form of a payload.
pub(super) const FORM: &str = "payload";
/// Most bytes of one.
const MAX: usize = 4_096;
const LABEL: &[u8] = b"postern/1 kms payload";

impl<K: JobKeys> Call<'_, K> {
    pub(super) async fn encrypt(mut self) -> Result<Value, Fault> {
        let context = of_form(self.members.context("EncryptionContext")?, FORM)?;
        self.members.only("EncryptionAlgorithm", SYMMETRIC)?;
        let plaintext = Members::needed("Plaintext", self.members.bytes("Plaintext")?)?;
        if !(1..=MAX).contains(&plaintext.len()) {
            return Err(Fault::invalid("Plaintext is not from 1 to 4,096 bytes"));
        }
        let dataset = self.key("KeyId", Action::Encrypt).await?;
        self.read_or_tried()?;
        let blob = self.sealed(&dataset, &context, &plaintext).await?;
        Ok(object([
            ("CiphertextBlob", base64(&blob.to_bytes())),
            ("KeyId", self.arn(dataset.id)),
            ("EncryptionAlgorithm", SYMMETRIC.into()),
        ]))
    }

    pub(super) async fn decrypt(mut self) -> Result<Value, Fault> {
        let pairs = self.members.context("EncryptionContext")?;
        self.members.only("EncryptionAlgorithm", SYMMETRIC)?;
        let (blob, dataset) = self
            .blob("CiphertextBlob", "KeyId", Action::Decrypt)
            .await?;
        self.read_or_tried()?;
        let plaintext = self.opened(&blob, pairs).await?;
        Ok(object([
            ("KeyId", self.arn(dataset.id)),
            ("Plaintext", base64(&plaintext)),
            ("EncryptionAlgorithm", SYMMETRIC.into()),
        ]))
    }

    pub(super) async fn re_encrypt(mut self) -> Result<Value, Fault> {
        let from = self.members.context("SourceEncryptionContext")?;
        let to = self.members.context("DestinationEncryptionContext")?;
        self.members.only("SourceEncryptionAlgorithm", SYMMETRIC)?;
        self.members
            .only("DestinationEncryptionAlgorithm", SYMMETRIC)?;
        let wanted = self.members.text("DestinationKeyId")?;
        let wanted = self
            .dataset(&Members::needed("DestinationKeyId", wanted)?)
            .await?;
        let action = |same| {
            if same {
                Action::Rewrap
            } else {
                Action::Decrypt
            }
        };
        let found = self.blob_of("CiphertextBlob", "SourceKeyId").await?;
        let (blob, source) = found;
        let same = source.id == wanted.id;
        allowed(&source, action(same))?;
        if !same {
            allowed(&wanted, Action::Encrypt)?;
        }
        self.read_or_tried()?;
        // rule: DOOR-8
        let blob = if same {
            let form = Form::parse(&blob.form).ok_or_else(Fault::ciphertext)?;
            let (old, new) = (
                form.context(from, &blob.form)?,
                form.context(to, &blob.form)?,
            );
            let wrapped = self
                .keys
                .rewrap(source.id, &blob.wrapped, &old, &new)
                .await?;
            Blob { wrapped, ..blob }
        } else {
            let plaintext = self.opened(&blob, from).await?;
            let context = of_form(to, FORM)?;
            self.sealed(&wanted, &context, &plaintext).await?
        };
        Ok(object([
            ("CiphertextBlob", base64(&blob.to_bytes())),
            ("SourceKeyId", self.arn(source.id)),
            ("KeyId", self.arn(wanted.id)),
            ("SourceEncryptionAlgorithm", SYMMETRIC.into()),
            ("DestinationEncryptionAlgorithm", SYMMETRIC.into()),
        ]))
    }

    async fn blob(
        &mut self,
        member: &str,
        key_id: &str,
        action: Action,
    ) -> Result<(Blob, JobDataset), Fault> {
        let (blob, dataset) = self.blob_of(member, key_id).await?;
        allowed(&dataset, action)?;
        Ok((blob, dataset))
    }

    /// The blob of a request and its dataset, which is the one that the caller names if it names one.
    async fn blob_of(&mut self, member: &str, key_id: &str) -> Result<(Blob, JobDataset), Fault> {
        // rule: DOOR-8
        let bytes = Members::needed(member, self.members.bytes(member)?)?;
        let blob = Blob::parse(&bytes).map_err(|_| Fault::ciphertext())?;
        if let Some(named) = self.members.text(key_id)?
            && self.dataset(&named).await?.id != blob.dataset
        {
            return Err(Fault::incorrect_key());
        }
        let dataset = self.keys.dataset(&Named::Id(blob.dataset)).await?;
        Ok((blob, dataset.ok_or_else(Fault::not_found)?))
    }

    /// What a blob holds.
    async fn opened(
        &self,
        blob: &Blob,
        pairs: std::collections::BTreeMap<String, String>,
    ) -> Result<Zeroizing<Vec<u8>>, Fault> {
        let form = Form::parse(&blob.form).ok_or_else(Fault::ciphertext)?;
        let context = form.context(pairs, &blob.form)?;
        if blob.sealed.is_some() != matches!(form, Form::Payload) {
            return Err(Fault::ciphertext());
        }
        let dek = self
            .keys
            .open(blob.dataset, &blob.wrapped, &context)
            .await?;
        match form {
            Form::DataKey(length) => expand(&dek, length),
            Form::Pair(kind) => pkcs8(kind, &dek),
            Form::Payload => open(&dek, blob.sealed.as_deref().unwrap_or_default()),
        }
    }

    /// A payload under a DEK of its own.
    async fn sealed(
        &self,
        dataset: &JobDataset,
        context: &ticket_format::Context,
        plaintext: &[u8],
    ) -> Result<Blob, Fault> {
        let made = self.keys.generate(dataset.id, context, true, None).await;
        let made = made.map_err(Fault::of_making)?;
        let dek = made
            .dek
            .ok_or_else(|| Fault::internal("no data key came"))?;
        Ok(Blob {
            dataset: dataset.id,
            wrapped: made.wrapped,
            form: FORM.to_owned(),
            sealed: Some(seal(&dek, plaintext)?),
        })
    }
}

fn key(dek: &Dek) -> Result<LessSafeKey, Fault> {
    let key = UnboundKey::new(&AES_256_GCM, dek.expose());
    key.map(LessSafeKey::new)
        .map_err(|_| Fault::internal("the payload's key cannot be used"))
}

/// The key seals nothing else, ever: its nonce may be constant.
fn nonce() -> Nonce {
    Nonce::assume_unique_for_key([0; 12])
}

fn seal(dek: &Dek, plaintext: &[u8]) -> Result<Vec<u8>, Fault> {
    // rule: DOOR-7
    let mut sealed = Vec::with_capacity(plaintext.len() + AES_256_GCM.tag_len());
    sealed.extend_from_slice(plaintext);
    let done = key(dek)?.seal_in_place_append_tag(nonce(), Aad::from(LABEL), &mut sealed);
    done.map_err(|_| Fault::internal("the payload could not be sealed"))?;
    Ok(sealed)
}

fn open(dek: &Dek, sealed: &[u8]) -> Result<Zeroizing<Vec<u8>>, Fault> {
    // rule: DOOR-7
    let mut plaintext = Zeroizing::new(sealed.to_vec());
    let opened = key(dek)?.open_in_place(nonce(), Aad::from(LABEL), &mut plaintext);
    let length = opened.map_err(|_| Fault::ciphertext())?.len();
    plaintext.truncate(length);
    Ok(plaintext)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_sealed_payload_is_the_known_one_and_opens_as_nothing_else() {
        // rule: DOOR-7
        // By the AES-GCM of pyca/cryptography 50.0.2.
        const KNOWN: [u8; 21] = [
            0x00, 0xf8, 0xcf, 0xd7, 0x82, 0xe2, 0xb3, 0x6e, 0x8c, 0x42, 0x96, 0x57, 0x32, 0xc2,
            0x2c, 0xe8, 0xd5, 0xd1, 0x4f, 0x31, 0x7b,
        ];
        let dek = Dek::from_bytes([7; 32]);
        assert_eq!(seal(&dek, b"a key").unwrap(), KNOWN);
        assert_eq!(open(&dek, &KNOWN).unwrap()[..], b"a key"[..]);
        let another = Dek::from_bytes([8; 32]);
        assert_eq!(open(&another, &KNOWN).unwrap_err(), Fault::ciphertext());
        for at in 0..KNOWN.len() {
            let mut changed = KNOWN;
            changed[at] ^= 1;
            assert_eq!(open(&dek, &changed).unwrap_err(), Fault::ciphertext());
        }
        assert_eq!(open(&dek, &KNOWN[..20]).unwrap_err(), Fault::ciphertext());
        assert_eq!(open(&dek, &[]).unwrap_err(), Fault::ciphertext());
    }
}
