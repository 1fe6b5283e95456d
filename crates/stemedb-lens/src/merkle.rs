//! A hash tree over a list, so that a page of it can be checked against one hash.
//!
//! The tree of RFC 6962, section 2.1 ("Certificate Transparency"), with BLAKE3: of n > 1 leaves, the
//! first k, the largest power of two below n, make the left half. A page is [`PAGE`] leaves, a power of
//! two, so a page is a whole subtree, and the tree over the leaves is the tree over the pages.

use stemedb_model::Hash;

/// Leaves on a page; the last one may hold fewer.
pub const PAGE: usize = 256;

const LEAF: u8 = 0;
const NODE: u8 = 1;

/// The hash of a leaf.
pub fn leaf(bytes: &[u8]) -> Hash {
    let mut hasher = blake3::Hasher::new();
    hasher.update(&[LEAF]).update(bytes);
    Hash(*hasher.finalize().as_bytes())
}

fn node(left: &Hash, right: &Hash) -> Hash {
    let mut hasher = blake3::Hasher::new();
    hasher.update(&[NODE]).update(left.as_bytes()).update(right.as_bytes());
    Hash(*hasher.finalize().as_bytes())
}

/// The hash of a list of leaf hashes, or of page hashes; of none, BLAKE3 of nothing. O(n).
pub fn root(hashes: &[Hash]) -> Hash {
    match hashes {
        [] => Hash(*blake3::hash(&[]).as_bytes()),
        [one] => *one,
        many => {
            let (left, right) = many.split_at(half(many.len()));
            node(&root(left), &root(right))
        }
    }
}

/// The hashes of the pages of a list of leaf hashes; of no leaf, of one empty page.
pub fn pages(leaves: &[Hash]) -> Vec<Hash> {
    if leaves.is_empty() {
        return vec![root(&[])];
    }
    leaves.chunks(PAGE).map(root).collect()
}

/// What a page at `index` needs beside itself to be checked: the hashes on its way to the root, nearest
/// first. Empty if there is no such page. O(n).
pub fn path(pages: &[Hash], index: usize) -> Vec<Hash> {
    let mut path = Vec::new();
    let (mut rest, mut index) = (pages, index);
    while rest.len() > 1 {
        let (left, right) = rest.split_at(half(rest.len()));
        if index < left.len() {
            path.push(root(right));
            rest = left;
        } else {
            path.push(root(left));
            index -= left.len();
            rest = right;
        }
    }
    path.reverse();
    path
}

/// The root that a page leads to: the page at `index` of `count`, by its leaf hashes, and the way of
/// [`path`]. `None` if that way is not one of such a page.
pub fn root_by(leaves: &[Hash], index: usize, count: usize, path: &[Hash]) -> Option<Hash> {
    if index >= count {
        return None;
    }
    // Which turns lead down to it.
    let mut turns = Vec::new();
    let (mut size, mut index) = (count, index);
    while size > 1 {
        let left = half(size);
        let goes_left = index < left;
        turns.push(goes_left);
        (size, index) = if goes_left { (left, index) } else { (size - left, index - left) };
    }
    if turns.len() != path.len() {
        return None;
    }
    let up = turns.iter().rev().zip(path);
    Some(up.fold(root(leaves), |hash, (goes_left, other)| match goes_left {
        true => node(&hash, other),
        false => node(other, &hash),
    }))
}

/// The largest power of two below n, for n > 1.
fn half(n: usize) -> usize {
    n.next_power_of_two() / 2
}

#[cfg(test)]
mod tests {
    use super::*;

    fn leaves(n: usize) -> Vec<Hash> {
        (0..n).map(|n| leaf(&n.to_le_bytes())).collect()
    }

    #[test]
    fn every_page_leads_to_the_root_and_no_other_does() {
        for n in [0, 1, 2, 255, 256, 257, 512, 700, 1_300, 2_049] {
            let leaves = leaves(n);
            let pages = pages(&leaves);
            assert_eq!(root(&pages), root(&leaves), "{n}");
            let count = pages.len();
            for index in 0..count {
                let page = leaves.chunks(PAGE).nth(index).unwrap_or_default();
                let path = path(&pages, index);
                assert_eq!(root_by(page, index, count, &path), Some(root(&leaves)), "{n} {index}");
                assert_ne!(root_by(page, index + 1, count, &path), Some(root(&leaves)));
                let mut other = page.to_vec();
                other.push(leaf(b"made up"));
                assert_ne!(root_by(&other, index, count, &path), Some(root(&leaves)));
                let mut longer = path.clone();
                longer.push(leaf(b""));
                assert_eq!(root_by(page, index, count, &longer), None);
            }
        }
    }

    #[test]
    fn a_leaf_is_no_node() {
        let (a, b) = (leaf(b"a"), leaf(b"b"));
        let both = [a.as_bytes().as_slice(), b.as_bytes()].concat();
        assert_ne!(leaf(&both), root(&[a, b]));
    }
}
