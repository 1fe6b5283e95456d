//! Whoever signs the certificate of a drill's node, with the key of the root on a medium of its own.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::time::Duration;

use anyhow::Result;
use rcgen::{
    BasicConstraints, CertificateParams, CertifiedIssuer, DnType, ExtendedKeyUsagePurpose, IsCa,
    KeyPair, KeyUsagePurpose,
};
use time::OffsetDateTime;

/// Where the page has the medium mounted.
const MEDIUM: &str = "/mnt/ca";
const FOLDER: &str = "/etc/stemedb";
/// Lines of the configuration of a node that uses it.
pub(crate) const CONFIG: &str =
    "\n[tls]\ncertificate = \"/etc/stemedb/node.pem\"\nkey = \"/etc/stemedb/node.key\"\n";
/// What clients trust.
pub(crate) const ROOTS: &str = "/etc/stemedb/root.pem";

/// Signs for the node of a drill.
pub(crate) struct Authority(CertifiedIssuer<'static, KeyPair>);

impl Authority {
    /// Makes the root, and puts it where the page has it.
    pub(crate) fn found() -> Result<Self> {
        let mut params = named("drill root", &[])?;
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
        let key = KeyPair::generate()?;
        let secret = key.serialize_pem();
        let root = CertifiedIssuer::self_signed(params, key)?;
        fs::create_dir_all(MEDIUM)?;
        let medium = Path::new(MEDIUM);
        fs::write(medium.join("root.pem"), root.pem())?;
        put_secret(&medium.join("root.key.pem"), &secret)?;
        fs::write(ROOTS, root.pem())?;
        Ok(Self(root))
    }

    /// Gives the node a certificate that ends after this time.
    pub(crate) fn sign(&self, good_for: Duration) -> Result<()> {
        let mut params = named("drill node", &["localhost", "127.0.0.1"])?;
        params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth];
        params.not_after = OffsetDateTime::now_utc() + good_for;
        let key = KeyPair::generate()?;
        let certificate = params.signed_by(&key, &self.0)?;
        let folder = Path::new(FOLDER);
        put_secret(&folder.join("node.key"), &key.serialize_pem())?;
        Ok(fs::write(folder.join("node.pem"), certificate.pem())?)
    }
}

fn named(name: &str, hosts: &[&str]) -> Result<CertificateParams> {
    let hosts: Vec<String> = hosts.iter().map(|&host| host.to_owned()).collect();
    let mut params = CertificateParams::new(hosts)?;
    params.distinguished_name.push(DnType::CommonName, name);
    Ok(params)
}

fn put_secret(path: &Path, text: &str) -> Result<()> {
    fs::write(path, text)?;
    Ok(fs::set_permissions(path, fs::Permissions::from_mode(0o600))?)
}
