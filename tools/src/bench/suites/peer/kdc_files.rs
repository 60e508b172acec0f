//! What MIT krb5's KDC and its callers are configured with, and the certificates that PKINIT needs.

use std::path::Path;

/// The realm.
const REALM: &str = "BENCH.TEST";
/// Who logs in with a keytab and asks for tickets.
pub(super) const NODE: &str = "node";
/// Who logs in with a certificate, and has no key that anything else could succeed by.
pub(super) const NEWCOMER: &str = "newcomer";
/// What tickets are asked for.
pub(super) const SERVICE: &str = "service";

/// `krb5.conf`, of the callers and of the KDC, which listens on this port.
pub(super) fn krb5_conf(dir: &Path, port: u16) -> String {
    let dir = dir.display();
    format!(
        "[libdefaults]\n default_realm = {REALM}\n dns_lookup_kdc = false\n dns_lookup_realm = false\n \
         dns_canonicalize_hostname = false\n rdns = false\n\
         [realms]\n {REALM} = {{\n  kdc = 127.0.0.1:{port}\n  pkinit_anchors = FILE:{dir}/ca.pem\n }}\n"
    )
}

/// `kdc.conf`. Without the two records of each login that the KDC would wait for the disk with.
pub(super) fn kdc_conf(dir: &Path, port: u16) -> String {
    let dir = dir.display();
    format!(
        "[kdcdefaults]\n kdc_listen = 127.0.0.1:{port}\n kdc_tcp_listen = 127.0.0.1:{port}\n\
         [realms]\n {REALM} = {{\n  database_module = own\n  key_stash_file = {dir}/stash\n  \
         acl_file = {dir}/acl\n  pkinit_identity = FILE:{dir}/kdc.pem,{dir}/kdc.key\n  \
         pkinit_anchors = FILE:{dir}/ca.pem\n }}\n\
         [dbmodules]\n own = {{\n  db_library = db2\n  database_name = {dir}/principal\n  \
         disable_last_success = true\n  disable_lockout = true\n }}\n\
         [logging]\n kdc = FILE:{dir}/kdc.log\n admin_server = FILE:{dir}/admin.log\n"
    )
}

/// What `openssl x509 -extensions kdc|node` reads: the purposes and names of RFC 4556, 3.2.2 and 3.2.4.
pub(super) fn extensions() -> String {
    // KDC: id-pkinit-KPKdc, a name of type NT-SRV-INST (2); client: id-pkinit-KPClientAuth, NT-PRINCIPAL (1).
    let kdc = extension("kdc", 5, 2, &["krbtgt", REALM]);
    kdc + &extension("node", 4, 1, &[NEWCOMER])
}

fn extension(section: &str, purpose: u8, kind: u8, name: &[&str]) -> String {
    let parts: String = (0..)
        .zip(name)
        .map(|(place, part)| format!("part{place} = GeneralString:{part}\n"))
        .collect();
    format!(
        "[{section}]\nbasicConstraints = CA:FALSE\nkeyUsage = digitalSignature, keyEncipherment, keyAgreement\n\
         extendedKeyUsage = 1.3.6.1.5.2.3.{purpose}\n\
         subjectAltName = otherName:1.3.6.1.5.2.2;SEQUENCE:{section}_name\n\
         [{section}_name]\nrealm = EXP:0, GeneralString:{REALM}\nprincipal = EXP:1, SEQUENCE:{section}_principal\n\
         [{section}_principal]\ntype = EXP:0, INTEGER:{kind}\nparts = EXP:1, SEQUENCE:{section}_parts\n\
         [{section}_parts]\n{parts}"
    )
}
