//! Keys on disk: a secret key is a file of 64 hex digits that only its owner may read.

use std::path::{Path, PathBuf};

use stemedb_io::Rng;
use stemedb_model::SigningKey;

use crate::failure::Failure;
use crate::files;

/// Name of the seed inside a keyring folder.
const KEYRING_FILE: &str = "keyring.seed";
/// Separates these keys from every other use of the seed.
const KEYRING_CONTEXT: &str = "stemedb 2026 keyring: one signing key per source";

/// Makes a new key.
pub fn generate(rng: &dyn Rng) -> SigningKey {
    let mut seed = [0; 32];
    rng.fill(&mut seed);
    SigningKey::from_seed(&seed)
}

/// Writes a new key file; fails if the name is taken.
pub fn save(path: &Path, key: &SigningKey) -> Result<(), Failure> {
    files::create_private(path, &format!("{}\n", hex::encode(key.seed())))
}

/// Reads a key file.
pub fn load(path: &Path) -> Result<SigningKey, Failure> {
    Ok(SigningKey::from_seed(&load_seed(path)?))
}

/// The keys of many sources, all derived from one seed: the same source has the same key in every
/// import that uses the folder, and a folder of a million sources is one small file.
#[derive(Debug)]
pub struct Keyring {
    seed: [u8; 32],
}

impl Keyring {
    /// Where the seed of this folder lies.
    pub fn file(dir: &Path) -> PathBuf {
        dir.join(KEYRING_FILE)
    }

    /// Opens the folder, or makes it with a new seed.
    pub fn open(dir: &Path, rng: &dyn Rng) -> Result<Self, Failure> {
        let path = Self::file(dir);
        if !path.exists() {
            std::fs::create_dir_all(dir).map_err(|error| {
                Failure::error(format!("cannot create {}", dir.display())).because(error)
            })?;
            save(&path, &generate(rng))?;
        }
        Ok(Self { seed: load_seed(&path)? })
    }

    /// A ring without a folder.
    pub fn from_seed(seed: [u8; 32]) -> Self {
        Self { seed }
    }

    /// The key of a source.
    pub fn key(&self, source: &str) -> SigningKey {
        let mut hasher = blake3::Hasher::new_derive_key(KEYRING_CONTEXT);
        hasher.update(&self.seed).update(source.as_bytes());
        SigningKey::from_seed(hasher.finalize().as_bytes())
    }
}

fn load_seed(path: &Path) -> Result<[u8; 32], Failure> {
    let text = files::read_private(path)?;
    let mut seed = [0; 32];
    // The decoder's own message would quote a character of the secret.
    hex::decode_to_slice(text.trim(), &mut seed).map_err(|_| {
        Failure::error(format!("{} is no key file", path.display()))
            .hint("a key file holds 64 hex digits; `stemedb key generate FILE` makes one")
    })?;
    Ok(seed)
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use stemedb_io::RealRng;

    use super::*;

    #[test]
    fn a_key_survives_its_file_and_is_private() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("a.key");
        let key = generate(&RealRng);
        save(&path, &key).unwrap();
        assert_eq!(load(&path).unwrap().seed(), key.seed());
        assert_eq!(std::fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
        assert!(save(&path, &key).is_err(), "a key file is never overwritten");
    }

    #[test]
    fn a_key_that_others_may_read_is_refused() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("a.key");
        save(&path, &generate(&RealRng)).unwrap();
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o644)).unwrap();
        let report = load(&path).unwrap_err().report();
        assert!(report.contains("hint: chmod 600"), "{report}");
    }

    #[test]
    fn a_keyring_gives_each_source_its_own_lasting_key() {
        let dir = tempfile::tempdir().unwrap();
        let first = Keyring::open(&dir.path().join("ring"), &RealRng).unwrap();
        let again = Keyring::open(&dir.path().join("ring"), &RealRng).unwrap();
        let other = Keyring::open(&dir.path().join("other"), &RealRng).unwrap();
        assert_eq!(first.key("aa").seed(), again.key("aa").seed());
        assert_ne!(first.key("aa").seed(), first.key("ab").seed());
        assert_ne!(first.key("aa").seed(), other.key("aa").seed());
    }
}
