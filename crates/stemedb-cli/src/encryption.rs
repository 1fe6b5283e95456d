//! The keys to the archive and to backups, in files that only their owner may read.

use std::path::Path;

use stemedb_io::Rng;
use stemedb_remote::{EncryptionKey, EncryptionKeys, KeyId};

use crate::config::Config;
use crate::failure::Failure;
use crate::files;

/// Writes a new key; fails if the name is taken. Gives its name.
pub fn generate(path: &Path, rng: &dyn Rng) -> Result<KeyId, Failure> {
    let key = EncryptionKey::generate(rng);
    files::create_private(path, &key.text())?;
    Ok(key.id())
}

/// Reads a key.
pub fn load(path: &Path) -> Result<EncryptionKey, Failure> {
    EncryptionKey::parse(&files::read_private(path)?).ok_or_else(|| {
        Failure::error(format!("{} is no file of an encryption key", path.display()))
            .hint("stemedb key generate --encryption FILE makes one")
    })
}

/// The keys that the configuration names.
pub fn keys(config: &Config) -> Result<EncryptionKeys, Failure> {
    let mut keys: Vec<EncryptionKey> = Vec::new();
    for path in &config.encryption.keys {
        let key = load(path)?;
        if is_below(path, &config.node_dir()) {
            return Err(Failure::error(format!(
                "the encryption key {} is in the folder that backups hold, and would be needed to read \
                 them",
                path.display()
            ))
            .hint("keep it elsewhere, as /etc/stemedb/encryption.key, and name that in encryption.keys"));
        }
        if !keys.contains(&key) {
            keys.push(key);
        }
    }
    Ok(EncryptionKeys::new(keys))
}

fn is_below(path: &Path, folder: &Path) -> bool {
    match (path.canonicalize(), folder.canonicalize()) {
        (Ok(path), Ok(folder)) => path.starts_with(folder),
        // There is no such folder yet.
        _ => false,
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "tests")]
mod tests {
    use std::os::unix::fs::PermissionsExt;
    use std::path::PathBuf;

    use stemedb_io::RealRng;

    use super::*;

    fn config(data: &Path, paths: &[PathBuf]) -> Config {
        let mut config = Config::default();
        config.server.data_dir = data.to_owned();
        config.encryption.keys = paths.to_vec();
        config
    }

    #[test]
    fn the_first_key_writes_and_all_read() {
        let dir = tempfile::tempdir().unwrap();
        let paths = [dir.path().join("new.key"), dir.path().join("old.key")];
        let ids = paths.each_ref().map(|path| generate(path, &RealRng).unwrap());
        let found = keys(&config(dir.path(), &paths)).unwrap();
        assert_eq!(found.writes_with(), Some(ids[0]));
        assert!(found.has(ids[1]) && ids[0] != ids[1]);
        assert_eq!(keys(&config(dir.path(), &[])).unwrap().writes_with(), None);
        assert!(generate(&paths[0], &RealRng).is_err(), "a key file is never overwritten");
    }

    #[test]
    fn what_is_no_safe_place_or_no_key_is_refused_with_the_remedy() {
        let dir = tempfile::tempdir().unwrap();
        let node = dir.path().join("node");
        std::fs::create_dir(&node).unwrap();
        let (inside, open) = (node.join("a.key"), dir.path().join("b.key"));
        let signing = dir.path().join("c.key");
        generate(&inside, &RealRng).unwrap();
        generate(&open, &RealRng).unwrap();
        std::fs::set_permissions(&open, std::fs::Permissions::from_mode(0o640)).unwrap();
        crate::keys::save(&signing, &crate::keys::generate(&RealRng)).unwrap();
        for (path, expected) in [
            (&inside, "keep it elsewhere"),
            (&open, "chmod 600"),
            (&signing, "is no file of an encryption key"),
            (&dir.path().join("none"), "cannot read"),
        ] {
            let report =
                keys(&config(dir.path(), std::slice::from_ref(path))).unwrap_err().report();
            assert!(report.contains(expected), "{report}");
        }
        assert!(crate::keys::load(&inside).is_err(), "nor is it a signing key");
    }
}
