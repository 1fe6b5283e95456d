//! Whether a store keeps its word. Some that speak S3 ignore the condition of a put and overwrite.

use stemedb_io::Rng;

use super::{Put, Store, StoreError};

const FOLDER: &str = "probe";

/// Puts an object twice, of a name that was never used, and refuses a store that overwrites it. Leaves
/// nothing behind, if it may remove.
pub fn probe(store: &dyn Store, rng: &dyn Rng) -> Result<(), StoreError> {
    let name = format!("{FOLDER}/{:016x}{:016x}", rng.next_u64(), rng.next_u64());
    let (first, second) = (b"first".as_slice(), b"second".as_slice());
    let refused =
        |problem: &str| StoreError::Refused { place: store.place(), problem: problem.into() };
    let verdict = match store.put_new(&name, first)? {
        Put::Exists => Err(refused("it says that an object is there which nobody has put")),
        Put::Created => {
            let again = store.put_new(&name, second)?;
            let found = store.get(&name, 64)?;
            if again == Put::Created || found == second {
                Err(refused(
                    "it overwrites an object that is there although it was told not to: an archive \
                     there could be destroyed by a mistake. Use a store with conditional writes \
                     (`If-None-Match: *`)",
                ))
            } else if found == first {
                Ok(())
            } else {
                let problem = "what is read back is not what was put".to_string();
                Err(StoreError::Unavailable { act: "put", name: name.clone(), problem })
            }
        }
    };
    // An archive may well be a place where nothing can be removed.
    if let Err(error) = store.remove(&name) {
        tracing::debug!(%error, "the object of the probe stays");
    }
    verdict
}
