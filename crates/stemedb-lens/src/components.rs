//! Strongly connected components of a small directed graph, without recursion.
#![expect(
    clippy::indexing_slicing,
    reason = "every index is a node below `nodes` or an edge offset computed from them"
)]

/// Which nodes depend on one another in a circle.
pub(crate) struct Components {
    /// Component of each node.
    pub(crate) of: Vec<usize>,
    /// The nodes of each component, ascending. A component comes after all that it depends on.
    pub(crate) members: Vec<Vec<usize>>,
}

/// The components of `nodes` nodes under edges (dependent, dependency).
///
/// Time O(nodes + edges). Tarjan, "Depth-First Search and Linear Graph Algorithms", SIAM Journal
/// on Computing 1(2), 1972, with the call stack kept by hand: callers choose the depth.
pub(crate) fn components(nodes: usize, edges: &[(usize, usize)]) -> Components {
    let mut start = vec![0usize; nodes + 1];
    for (from, _) in edges {
        start[from + 1] += 1;
    }
    for node in 0..nodes {
        start[node + 1] += start[node];
    }
    let mut free = start.clone();
    let mut targets = vec![0usize; edges.len()];
    for (from, to) in edges {
        targets[free[*from]] = *to;
        free[*from] += 1;
    }

    const UNSEEN: usize = usize::MAX;
    let mut order = vec![UNSEEN; nodes];
    let mut low = vec![UNSEEN; nodes];
    let mut open = vec![false; nodes];
    let mut found = Components { of: vec![0; nodes], members: Vec::new() };
    let mut stack = Vec::new();
    let mut calls = Vec::new();
    let mut seen = 0;
    for root in 0..nodes {
        if order[root] != UNSEEN {
            continue;
        }
        calls.push((root, start[root]));
        while let Some((node, edge)) = calls.pop() {
            if order[node] == UNSEEN {
                (order[node], low[node], open[node]) = (seen, seen, true);
                seen += 1;
                stack.push(node);
            }
            if edge < start[node + 1] {
                let target = targets[edge];
                calls.push((node, edge + 1));
                if order[target] == UNSEEN {
                    calls.push((target, start[target]));
                } else if open[target] {
                    low[node] = low[node].min(order[target]);
                }
                continue;
            }
            if low[node] == order[node] {
                let mut members = Vec::new();
                while let Some(member) = stack.pop() {
                    open[member] = false;
                    found.of[member] = found.members.len();
                    members.push(member);
                    if member == node {
                        break;
                    }
                }
                members.sort_unstable();
                found.members.push(members);
            }
            if let Some((caller, _)) = calls.last() {
                low[*caller] = low[*caller].min(low[node]);
            }
        }
    }
    found
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn circles_are_found_and_dependencies_come_first() {
        for (nodes, edges, expected) in [
            (3, vec![], vec![vec![0], vec![1], vec![2]]),
            (3, vec![(0, 1), (1, 2)], vec![vec![2], vec![1], vec![0]]),
            (4, vec![(0, 1), (1, 0), (1, 2), (3, 0)], vec![vec![2], vec![0, 1], vec![3]]),
            (2, vec![(0, 0), (0, 1)], vec![vec![1], vec![0]]),
            (
                5,
                vec![(0, 1), (1, 2), (2, 0), (2, 3), (3, 4), (4, 3)],
                vec![vec![3, 4], vec![0, 1, 2]],
            ),
        ] {
            let found = components(nodes, &edges);
            assert_eq!(found.members, expected, "{edges:?}");
            for (component, members) in found.members.iter().enumerate() {
                assert!(members.iter().all(|node| found.of[*node] == component));
            }
        }
    }

    #[test]
    fn a_long_chain_needs_no_stack() {
        let edges: Vec<_> = (0..200_000).map(|node| (node, node + 1)).collect();
        assert_eq!(components(200_001, &edges).members.len(), 200_001);
    }
}
