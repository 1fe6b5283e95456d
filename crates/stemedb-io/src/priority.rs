//! Which threads come behind others.

/// A step of nice is a fifth of a processor's share: ten are a tenth of it.
const BEHIND: i32 = 10;

/// From now on the calling thread, and those that it starts, come behind the others of the process: about a
/// tenth of a processor that others want too, all of one that nobody wants. For work that nobody waits for.
/// A thread must not hold a lock for long then that others wait for. It can't be taken back.
pub fn come_behind() {
    // Being less important is never refused; where it is, there is nothing better to do.
    let _ = rustix::process::nice(BEHIND);
}

#[cfg(test)]
mod tests {
    use super::*;

    fn own() -> i32 {
        rustix::process::nice(0).unwrap()
    }

    #[test]
    fn a_thread_and_its_children_come_behind_and_nobody_else() {
        let before = own();
        let inside = std::thread::spawn(|| {
            come_behind();
            (own(), std::thread::spawn(own).join().unwrap())
        });
        let expected = (before + BEHIND).min(19);
        assert_eq!(inside.join().unwrap(), (expected, expected));
        assert_eq!(own(), before);
    }
}
