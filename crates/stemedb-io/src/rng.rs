//! Chance: names of databases, salts, keys.

/// Fills buffers with random bytes.
pub trait Rng: Send + Sync {
    /// Overwrites all of `bytes`.
    fn fill(&self, bytes: &mut [u8]);

    /// A random number, all 64 bits.
    fn next_u64(&self) -> u64 {
        let mut bytes = [0; 8];
        self.fill(&mut bytes);
        u64::from_le_bytes(bytes)
    }
}

/// The kernel's generator; fit for keys.
#[derive(Debug, Clone, Copy)]
pub struct RealRng;

impl Rng for RealRng {
    #[expect(
        clippy::panic,
        reason = "getrandom fails only on kernels without it, and going on without randomness would make guessable keys"
    )]
    fn fill(&self, bytes: &mut [u8]) {
        let mut rest = bytes;
        while !rest.is_empty() {
            match rustix::rand::getrandom(&mut *rest, rustix::rand::GetRandomFlags::empty()) {
                Ok(n) => rest = rest.split_at_mut(n).1,
                Err(rustix::io::Errno::INTR) => {}
                Err(error) => panic!("getrandom: {error}"),
            }
        }
    }
}
