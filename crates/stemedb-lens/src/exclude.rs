//! Step 1, the first half: the exclusions that a claim brings upon itself or inherits from what it
//! rests on. Those that depend on its neighbours and on the time asked about are told by
//! [`Statements`](crate::statements::Statements).
//!
//! A claim is judged from what it depends on, transitively, and from nothing else: so some claims of
//! a key can be judged again without the others.
#![expect(
    clippy::indexing_slicing,
    reason = "node indices come from one table that all the lists here are as long as"
)]

use std::collections::{HashMap, HashSet};

use stemedb_model::{Cardinality, LifecycleState, Millis, Position, Principal, Tier};

use crate::candidates::{Candidates, Claim, Fact};
use crate::choosing::Choosing;
use crate::components::components;
use crate::facts::{Facts, LiveVote, live_facts};
use crate::lookup::{Lookup, Signer};
use crate::resolution::Reason;

/// What became of the claims that were asked about.
pub(crate) struct Judgement<'a> {
    /// Ascending by position; of related claims only what others depend on was of interest.
    pub(crate) claims: Vec<Judged<'a>>,
    pub(crate) votes: Vec<LiveVote<'a>>,
    /// (what is depended on, what depends on it): claims and their premises, superseded assertions and
    /// those in their place.
    pub(crate) dependants: Vec<(Position, Position)>,
}

/// One claim, judged.
pub(crate) struct Judged<'a> {
    pub(crate) claim: &'a Claim,
    pub(crate) role: Role,
    /// Chosen by `asserted_before`.
    pub(crate) kept: bool,
    /// Who stands for it: the author, or the best cosigner of a revoked author.
    pub(crate) agent: u32,
    pub(crate) author: u32,
    pub(crate) voice: u32,
    pub(crate) source: u32,
    pub(crate) tier: Tier,
    pub(crate) state: LifecycleState,
    pub(crate) cosign: Option<Position>,
    /// Agents other than the author that stand by it.
    pub(crate) cosigns: u32,
    /// The first reason in the order of the model.
    pub(crate) reason: Option<(Reason, Option<Position>)>,
}

/// Judges all that is in `candidates`, which must hold everything that these claims depend on.
/// Time O(n log n) in claims, premises and facts.
pub(crate) fn judge<'a>(
    candidates: &'a Candidates,
    cardinality: Cardinality,
    choosing: Choosing,
    lookup: &mut Lookup,
) -> Judgement<'a> {
    let before = choosing.asserted_before;
    let facts = live_facts(&candidates.facts, before, lookup);
    let table = Table::new(candidates, cardinality, before);
    let mut falls = judge_alone(&table, candidates, &facts, choosing, lookup);
    inherit_tiers(&table, &mut falls);
    inherit_falls(&table, &facts, &mut falls);

    let mut dependants = Vec::new();
    let mut claims = Vec::with_capacity(table.nodes.len());
    for (node, fall) in table.nodes.iter().zip(falls) {
        let claim = node.claim;
        dependants.extend(claim.premises.iter().map(|premise| (*premise, claim.position)));
        claims.push(Judged {
            claim,
            role: node.role,
            kept: node.kept,
            agent: fall.signer.agent,
            author: fall.author,
            voice: lookup.voice(fall.signer, fall.principal),
            source: fall.source,
            tier: fall.tier,
            state: fall.state,
            cosign: fall.cosign,
            cosigns: fall.cosigns,
            reason: fall.reason,
        });
    }
    dependants.extend(facts.links.iter().map(|link| (link.new, link.old)));
    Judgement { claims, votes: facts.votes, dependants }
}

/// What a claim is to the key.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Role {
    Key,
    /// It denies values of the key, under an opposite predicate.
    Opposing,
    /// Others depend on it.
    Related,
}

struct Node<'a> {
    claim: &'a Claim,
    role: Role,
    /// Chosen by `asserted_before`. The others still cap the tiers of what rests on them.
    kept: bool,
}

/// All claims, ascending by position, and what they rest on.
struct Table<'a> {
    nodes: Vec<Node<'a>>,
    /// The premises of each, ascending.
    premises: Vec<Vec<usize>>,
    /// Claims with a premise that is not here.
    groundless: Vec<bool>,
}

impl<'a> Table<'a> {
    fn new(
        candidates: &'a Candidates,
        cardinality: Cardinality,
        asserted_before: Option<Millis>,
    ) -> Self {
        let opposing = match cardinality {
            Cardinality::Many => Role::Opposing,
            Cardinality::One => Role::Related,
        };
        let lists = [
            (&candidates.claims, Role::Key),
            (&candidates.opposing, opposing),
            (&candidates.related, Role::Related),
        ];
        let mut nodes: Vec<Node<'_>> = Vec::new();
        for (claims, role) in lists {
            let claims = claims.iter().filter(|claim| claim.position <= candidates.as_of);
            nodes.extend(claims.map(|claim| Node {
                claim,
                role,
                kept: asserted_before.is_none_or(|before| claim.at < before),
            }));
        }
        nodes.sort_unstable_by_key(|node| (node.claim.position, node.role));
        nodes.dedup_by_key(|node| node.claim.position);
        let mut table = Self { premises: Vec::new(), groundless: Vec::new(), nodes };
        for node in &table.nodes {
            let of = node.claim.premises.iter();
            // A premise is older than what rests on it: so says the log, and so the walk ends.
            let mut premises: Vec<usize> = of
                .filter(|premise| **premise < node.claim.position)
                .filter_map(|premise| table.find(*premise))
                .collect();
            table.groundless.push(premises.len() < node.claim.premises.len());
            premises.sort_unstable();
            table.premises.push(premises);
        }
        table
    }

    fn find(&self, position: Position) -> Option<usize> {
        self.nodes.binary_search_by_key(&position, |node| node.claim.position).ok()
    }
}

/// What became of one claim.
struct Fall<'a> {
    /// The first reason in the order of the model.
    reason: Option<(Reason, Option<Position>)>,
    /// What rests on it is undermined.
    undermines: bool,
    /// It cannot take another's place: excluded for anything but being superseded itself.
    gone: bool,
    tier: Tier,
    state: LifecycleState,
    /// Who stands for it, and for whom that record was received.
    signer: Signer,
    principal: &'a Principal,
    author: u32,
    source: u32,
    cosign: Option<Position>,
    cosigns: u32,
}

impl Fall<'_> {
    fn note(&mut self, reason: Reason, by: Option<Position>) {
        if self.reason.is_none_or(|(first, _)| reason < first) {
            self.reason = Some((reason, by));
        }
        self.gone |= reason != Reason::Superseded;
        // Of lifecycle states only `rejected` does; the caller adds that.
        self.undermines |= reason != Reason::Lifecycle;
    }
}

/// The exclusions that a claim's own author, source, epoch, state and retractions bring.
fn judge_alone<'a>(
    table: &Table<'a>,
    candidates: &Candidates,
    facts: &Facts<'a>,
    choosing: Choosing,
    lookup: &mut Lookup,
) -> Vec<Fall<'a>> {
    let epochs: HashMap<Position, _> = candidates.epochs.iter().copied().collect();
    let mut judge = |node: &Node<'a>| {
        let claim = node.claim;
        let revoked = lookup.revoked_by(&claim.agent, claim.position);
        let cosign = revoked.and_then(|_| best_cosign(claim, facts, lookup));
        let (key, principal) = cosign
            .map_or((&claim.agent, &claim.principal), |cosign| (&cosign.agent, &cosign.principal));
        let author = lookup.signer(&claim.agent, &claim.principal);
        let signer = if cosign.is_some() { lookup.signer(key, principal) } else { author };
        let named = lookup.named(&claim.source);
        let moved = facts.lifecycle.get(&claim.position);
        let state = match moved {
            Some((_, state)) => *state,
            None if revoked.is_none() => {
                lookup.declared_lifecycle(&claim.agent, claim.lifecycle, claim.position)
            }
            // A revoked reviewer declares nothing, whoever stands by the claim.
            None if claim.lifecycle == LifecycleState::UnderReview => claim.lifecycle,
            None => LifecycleState::Proposed,
        };
        let mut fall = Fall {
            reason: None,
            undermines: false,
            gone: false,
            tier: lookup.base_tier((signer, key), (named, &claim.source), claim.class),
            state,
            signer,
            principal,
            author: author.agent,
            source: named.source,
            cosign: cosign.map(|cosign| cosign.position),
            cosigns: cosigners(claim, author.agent, facts, lookup),
        };
        if let Some(by) = facts.retracted.get(&claim.position) {
            fall.note(Reason::Retracted, Some(*by));
        }
        if let Some(by) = named.retracted {
            fall.note(Reason::SourceRetracted, Some(by));
        }
        if choosing.epoch_aware
            && let Some(epoch) = claim.epoch.and_then(|epoch| epochs.get(&epoch))
            && let Some(by) =
                lookup.registry().epoch_superseded(epoch, lookup.as_of(), choosing.asserted_before)
        {
            fall.note(Reason::EpochSuperseded, Some(by));
        }
        if !choosing.allows(state) {
            fall.note(Reason::Lifecycle, moved.map(|(by, _)| *by));
            fall.undermines |= state == LifecycleState::Rejected;
        }
        if revoked.is_some() && cosign.is_none() {
            fall.note(Reason::AgentRevoked, revoked);
        }
        fall
    };
    table.nodes.iter().map(&mut judge).collect()
}

/// How many agents other than the author stand by a claim.
fn cosigners(claim: &Claim, author: u32, facts: &Facts<'_>, lookup: &mut Lookup) -> u32 {
    let cosigns = facts.cosigns.get(&claim.position).into_iter().flatten();
    let agents: HashSet<u32> =
        cosigns.map(|cosign| lookup.signer(&cosign.agent, &cosign.principal).agent).collect();
    u32::try_from(agents.iter().filter(|agent| **agent != author).count()).unwrap_or(u32::MAX)
}

/// The live cosign by another agent with the lowest ceiling number, then the oldest.
fn best_cosign<'a>(claim: &Claim, facts: &Facts<'a>, lookup: &mut Lookup) -> Option<&'a Fact> {
    let author = lookup.signer(&claim.agent, &claim.principal).agent;
    let cosigns = facts.cosigns.get(&claim.position)?.iter().copied();
    let others =
        cosigns.filter(|cosign| lookup.signer(&cosign.agent, &cosign.principal).agent != author);
    let others: Vec<_> = others.collect();
    others.into_iter().min_by_key(|cosign| (lookup.ceiling(&cosign.agent), cosign.position))
}

/// A claim is of no better tier than what it rests on.
fn inherit_tiers(table: &Table<'_>, falls: &mut [Fall<'_>]) {
    for node in 0..table.nodes.len() {
        let premises = table.premises[node].iter();
        let worst = premises.map(|premise| falls[*premise].tier).max();
        let worst = if table.groundless[node] { Some(worst_tier()) } else { worst };
        if let Some(worst) = worst {
            falls[node].tier = falls[node].tier.worst(worst);
        }
    }
}

fn worst_tier() -> Tier {
    stemedb_model::SourceClass::Anecdotal.tier()
}

/// `superseded` and `undermined`, which depend on other claims and on one another.
///
/// Claims that depend on one another in a circle (a revision that rests on what it revises) are a
/// *knot*. Within a knot, being superseded undermines nothing: otherwise a supersession could
/// bring down the claim that it lives by, and with it itself.
fn inherit_falls(table: &Table<'_>, facts: &Facts<'_>, falls: &mut [Fall<'_>]) {
    let links = holding_links(table, facts);
    let mut successors: Vec<Vec<usize>> = vec![Vec::new(); table.nodes.len()];
    for (old, new) in &links {
        successors[*old].push(*new);
    }
    if links.is_empty() {
        // Premises are older, so ascending order decides each before what rests on it.
        (0..table.nodes.len()).for_each(|node| settle(table, &successors, &[node], falls));
        return;
    }
    let premises = table.premises.iter().enumerate();
    let mut edges: Vec<(usize, usize)> =
        premises.flat_map(|(node, of)| of.iter().map(move |premise| (node, *premise))).collect();
    edges.extend(&links);
    for knot in components(table.nodes.len(), &edges).members {
        settle(table, &successors, &knot, falls);
    }
}

/// Decides one knot, ascending, all that it depends on being decided.
fn settle(table: &Table<'_>, successors: &[Vec<usize>], knot: &[usize], falls: &mut [Fall<'_>]) {
    let kept = |node: usize| table.nodes[node].kept;
    let position = |node: usize| Some(table.nodes[node].claim.position);
    for &node in knot.iter().filter(|node| kept(**node)) {
        // Superseded from outside the knot: that undermines inside, too.
        let mut outside = successors[node].iter().filter(|new| knot.binary_search(new).is_err());
        falls[node].undermines |= outside.any(|new| !falls[*new].gone);
    }
    for &node in knot.iter().filter(|node| kept(**node)) {
        let mut premises = table.premises[node].iter().copied();
        if let Some(fallen) = premises.find(|premise| kept(*premise) && falls[*premise].undermines)
        {
            falls[node].note(Reason::Undermined, position(fallen));
        }
    }
    for &node in knot.iter().filter(|node| kept(**node)) {
        if let Some(new) = successors[node].iter().copied().find(|new| !falls[*new].gone) {
            falls[node].note(Reason::Superseded, position(new));
        }
    }
}

/// The live links between kept claims, in the order of the log, as (old, new).
///
/// A link that closes a circle is refused when it is written, but undoing a retraction can close
/// one too. Then the link that was written last does not hold.
fn holding_links(table: &Table<'_>, facts: &Facts<'_>) -> Vec<(usize, usize)> {
    let end = |position| table.find(position).filter(|node| table.nodes[*node].kept);
    let links = facts.links.iter();
    let mut links: Vec<(usize, usize)> =
        links.filter_map(|link| Some((end(link.old)?, end(link.new)?))).collect();
    links.retain(|(old, new)| old != new);
    if links.is_empty() {
        return links;
    }
    let circles = components(table.nodes.len(), &links);
    let mut accepted: HashMap<usize, Vec<usize>> = HashMap::new();
    links.retain(|(old, new)| {
        if circles.of[*old] != circles.of[*new] {
            return true;
        }
        let mut seen = HashSet::new();
        let mut todo = vec![*new];
        while let Some(node) = todo.pop() {
            if node == *old {
                return false;
            }
            if seen.insert(node) {
                todo.extend(accepted.get(&node).into_iter().flatten());
            }
        }
        accepted.entry(*old).or_default().push(*new);
        true
    });
    links
}
