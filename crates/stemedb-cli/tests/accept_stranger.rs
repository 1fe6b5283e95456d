//! A stranger, whom nobody registered, tries everything. Whatever it is told, no other party's
//! tier, record or registry changes, and no `authority` answer where a registered tier speaks.
#![allow(
    clippy::unwrap_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "test support: what is not there fails the test"
)]

mod common;

use std::collections::BTreeMap;

use common::bodies::*;
use common::{Server, agent, id_of, key};
use serde_json::{Value, json};
use stemedb_model::SourceClass::{Anecdotal, Clinical, Expert, Regulatory};
use stemedb_model::*;

const LABEL: &str = "https://example.org/label";
const TRIAL: &str = "https://example.org/trial";
/// A hash that the regulator registered as a name of the label.
const LABEL_HASH: Hash = Hash([0xab; 32]);

/// Keys about which somebody registered speaks.
const KEYS: [(&str, &str); 6] = [
    ("drug", "risk"),
    ("drug", "dose"),
    ("brand", "risk"),
    ("drug", "maker"),
    ("drug", "cause"),
    ("other", "risk"),
];

/// A database in which everybody but the stranger has said something.
struct World {
    server: Server,
    space: Space,
    staged: Vec<Signed>,
    /// The records of the others, by a name for messages.
    named: BTreeMap<&'static str, RecordId>,
}

/// What the stranger must not change.
struct Seen {
    /// Of each key: the winners under authority, and each value of the others with its tier.
    answers: Vec<Value>,
    /// Of each record of the others: the record, its tier, voice and state if it is a claim, and
    /// whether and why it is excluded.
    records: BTreeMap<&'static str, Value>,
}

impl World {
    fn new() -> Self {
        let server = Server::start();
        // In `default` the server registers the agent by which it signs for callers without keys.
        let space = Space::parse("clinic").unwrap();
        let mut world = Self { server, space, staged: vec![], named: BTreeMap::new() };
        let w = &mut world;
        for (name, ceiling, roles) in [
            ("regulator", Regulatory, &[][..]),
            ("trial", Clinical, &[]),
            ("doctor", Expert, &[]),
            ("registrar", Regulatory, &[Role::Registrar]),
            ("curator", Regulatory, &[Role::Curator]),
            ("reviewer", Expert, &[Role::Reviewer]),
        ] {
            w.write(name, "root", register(agent(name), ceiling, roles));
        }
        let keys = vec![SourceKey::Evidence(LABEL_HASH), uri(LABEL)];
        w.write("label", "registrar", {
            Body::Source(Source { keys, class: Regulatory, title: None })
        });
        w.write("report", "registrar", source(TRIAL, Clinical));
        w.write("risk is one", "registrar", predicate("risk", Cardinality::One));
        w.write("brand", "registrar", alias("brand", "drug"));
        w.write("lens", "registrar", lens("house", 1));
        w.write("gold", "registrar", gold("drug", "dose", "1 mg"));
        w.write("trust", "registrar", trust(1));
        let era = w.write("era", "registrar", epoch("after the label change", None));

        let rare = w.write("rare", "regulator", cited("drug", "risk", "rare", LABEL, Regulatory));
        let none = w.write("none", "trial", cited("drug", "risk", "none", TRIAL, Clinical));
        w.write("often", "doctor", claim("drug", "risk", "often", Expert));
        w.write("dose", "regulator", cited("drug", "dose", "1 mg", LABEL, Regulatory));
        w.write("maker", "regulator", {
            let claim = assertion("drug", "maker", "N");
            let source = Provenance { evidence: Some(LABEL_HASH), ..Provenance::default() };
            Body::Assertion(Assertion { epoch: Some(era), source: Some(source), ..claim })
        });
        w.write("cause", "trial", {
            let claim = assertion("drug", "cause", "slow stomach");
            let source = Provenance { uri: Some(TRIAL.into()), ..Provenance::default() };
            Body::Assertion(Assertion { derived_from: vec![none], source: Some(source), ..claim })
        });
        w.write("elsewhere", "doctor", claim("other", "risk", "rare", Expert));
        let mistake = w.write("mistake", "doctor", claim("other", "risk", "none", Expert));
        w.write("withdrawn", "curator", retract(mistake));
        let old = w.write("old dose", "trial", cited("drug", "dose", "2 mg", TRIAL, Clinical));
        let new = w.write("new dose", "trial", cited("drug", "dose", "3 mg", TRIAL, Clinical));
        w.write("newer dose", "trial", supersede(old, new));
        w.write("approved", "reviewer", lifecycle(rare, LifecycleState::Approved));
        w.write("vote", "doctor", vote(rare, 1.0));
        w.write("cosign", "trial", cosign(rare));
        for n in 0..20 {
            let who = format!("patient {n}");
            let body = claim("drug", "risk", "often", Anecdotal);
            let signed = w.server.sign(&key(&who), &w.space, body);
            w.staged.push(signed);
        }
        w.server.import(&std::mem::take(&mut w.staged));
        world
    }

    fn write(&mut self, name: &'static str, who: &str, body: Body) -> RecordId {
        let key = if who == "root" { self.server.root.clone() } else { key(who) };
        let signed = self.server.sign(&key, &self.space, body);
        let id = signed.id();
        self.named.insert(name, id);
        self.staged.push(signed);
        id
    }

    fn id(&self, name: &str) -> RecordId {
        self.named[name]
    }

    fn sign(&self, body: Body) -> Signed {
        self.server.sign(&key("stranger"), &self.space, body)
    }

    fn resolve(&self, key: (&str, &str), lens: &str, more: &[(&str, &str)]) -> Value {
        let question =
            [("space", "clinic"), ("subject", key.0), ("predicate", key.1), ("lens", lens)];
        let query = [&question, more].concat();
        self.server.get("/v1/query", &query).expect(200)
    }

    fn seen(&self) -> Seen {
        let answers = KEYS.map(|key| {
            let answer = self.resolve(key, "authority", &[]);
            // What registered tiers say, and how they share the answer.
            let registered: Vec<Value> = answer["candidates"]
                .as_array()
                .unwrap()
                .iter()
                .filter(|value| value["tier"].as_u64().unwrap() < 5)
                .map(|value| json!([value["value"], value["tier"], value["lens_share"]]))
                .collect();
            let parts = ["subject", "value", "winners", "because", "lens_share", "lens_margin"];
            json!([parts.map(|part| answer[part].clone()), registered])
        });
        let records = self.named.iter().map(|(name, id)| {
            let found = self.server.get(&format!("/v1/records/{id}"), &[]).expect(200);
            let parts = ["position", "recorded_at", "record", "excluded", "standing"];
            (*name, json!(parts.map(|part| found[part].clone())))
        });
        Seen { answers: answers.to_vec(), records: records.collect() }
    }

    /// Refused: nothing is logged and no answer moves.
    #[track_caller]
    fn refused(&self, act: &str, signed: &Signed, status: u16, code: &str) {
        let (position, root) = (self.server.position(), self.server.answer_root());
        let expected = (status, code.to_owned());
        let posted = self.server.post_record(signed).unwrap();
        assert_eq!(posted.outcome(), expected, "{act}: {}", posted.text);
        let put = self.server.put_record(signed);
        assert_eq!(put.outcome(), expected, "{act}: {}", put.text);
        assert_eq!(self.server.position(), position, "{act}");
        assert_eq!(self.server.answer_root(), root, "{act}");
    }

    /// Recorded, without effect on the others.
    #[track_caller]
    fn harmless(&self, act: &str, before: &Seen, body: Body) -> RecordId {
        let signed = self.sign(body);
        self.server.put_record(&signed).expect(201);
        same(&self.seen(), before, act);
        signed.id()
    }

    /// The part of its own claim that nobody but the database decides.
    #[track_caller]
    fn standing(&self, id: RecordId) -> Value {
        self.server.get(&format!("/v1/assertions/{id}"), &[]).expect(200)["standing"].clone()
    }
}

/// Fails with what differs, not with everything.
#[track_caller]
fn same(now: &Seen, before: &Seen, after: &str) {
    for ((about, now), before) in KEYS.iter().zip(&now.answers).zip(&before.answers) {
        assert_eq!(now, before, "the answer about {about:?} after: {after}");
    }
    for (name, now) in &now.records {
        assert_eq!(*now, before.records[name], "{name} after: {after}");
    }
}

#[test]
fn the_world_is_as_the_other_tests_take_it() {
    let world = World::new();
    let winners: Vec<Value> =
        KEYS.map(|key| world.resolve(key, "authority", &[])["value"].clone()).to_vec();
    assert_eq!(winners, ["rare", "1 mg", "rare", "N", "slow stomach", "rare"]);
    let seen = world.seen();
    assert_eq!(seen.records["mistake"][3]["reason"], "retracted");
    assert_eq!(seen.records["old dose"][3]["reason"], "superseded");
    assert_eq!(seen.records["rare"][3], Value::Null);
    for (name, tier) in [("rare", 0), ("dose", 0), ("maker", 0), ("cause", 1), ("often", 3)] {
        assert_eq!(seen.records[name][4]["tier"], tier, "{name}");
    }
    assert_eq!(seen.records["rare"][4]["lifecycle"], "approved");
}

#[test]
fn acts_that_take_a_role() {
    let world = World::new();
    let id = |name| world.id(name);
    let stranger = agent("stranger");
    let own = world.sign(claim("drug", "risk", "mine", Anecdotal));
    world.server.put_record(&own).expect(201);
    let before = world.seen();
    let everything = [Role::Curator, Role::Registrar, Role::Reviewer, Role::Trust];
    for (act, body) in [
        ("approve its own claim", lifecycle(own.id(), LifecycleState::Approved)),
        ("reject the regulator's", lifecycle(id("rare"), LifecycleState::Rejected)),
        ("deprecate the regulator's", lifecycle(id("rare"), LifecycleState::Deprecated)),
        ("register its source", source("https://example.org/mine", Regulatory)),
        ("re-classify a registered source", source(LABEL, Anecdotal)),
        ("register a predicate", predicate("mine", Cardinality::One)),
        ("change a predicate", predicate("risk", Cardinality::Many)),
        ("alias into a known subject", alias("drug", "poison")),
        ("join two of the others", alias("drug", "other")),
        ("define a lens", lens("mine", 1)),
        ("define the next version of a lens", lens("house", 2)),
        ("state gold", gold("drug", "risk", "mine")),
        ("change the trust", trust(1)),
        ("replace an epoch", epoch("mine", Some((id("era"), EpochMode::Replace)))),
        ("extend an epoch", epoch("mine", Some((id("era"), EpochMode::Extend)))),
        ("supersede the regulator's claim", supersede(id("rare"), own.id())),
        ("supersede it by the trial's", supersede(id("rare"), id("none"))),
        ("retract the regulator's claim", retract(id("rare"))),
        ("retract an expert's claim", retract(id("often"))),
        ("retract a vote", retract(id("vote"))),
        ("retract a cosign", retract(id("cosign"))),
        ("retract a supersession", retract(id("newer dose"))),
        ("undo a retraction", retract(id("withdrawn"))),
        ("retract a verdict", retract(id("approved"))),
        ("retract a source record", retract(id("label"))),
        ("retract a predicate", retract(id("risk is one"))),
        ("retract an alias", retract(id("brand"))),
        ("retract a lens", retract(id("lens"))),
        ("retract gold", retract(id("gold"))),
        ("retract an epoch", retract(id("era"))),
        ("retract a source", retract_source(uri(LABEL))),
        ("retract a source by its hash", retract_source(SourceKey::Evidence(LABEL_HASH))),
        ("register itself", register(stranger, Regulatory, &[])),
        ("give itself every role", register(stranger, Regulatory, &everything)),
        ("register a friend", register(agent("friend"), Expert, &[])),
        ("demote the regulator", register(agent("regulator"), Anecdotal, &[])),
        ("demote the registrar", register(agent("registrar"), Anecdotal, &[])),
        ("revoke the regulator", revoke(agent("regulator"), 1)),
        ("revoke the registrar", revoke(agent("registrar"), 1)),
        ("revoke nobody", revoke(agent("nobody"), 1)),
    ] {
        world.refused(act, &world.sign(body), 403, "forbidden");
    }
    for (act, body, code) in [
        ("become root", register(world.server.root.agent_id(), Anecdotal, &[]), "conflict"),
        ("revoke root", revoke(world.server.root.agent_id(), 1), "conflict"),
        ("retract a registration", retract(id("regulator")), "wrong_kind"),
        ("retract the trust", retract(id("trust")), "wrong_kind"),
        ("retract genesis", retract(genesis(&world)), "wrong_space"),
        (
            "take the regulator's key as its new one",
            { replace(world.server.log_id, &world.space, stranger, &key("regulator")) },
            "conflict",
        ),
    ] {
        world.refused(act, &world.sign(body), 409, code);
    }
    same(&world.seen(), &before, "all of it");
}

fn genesis(world: &World) -> RecordId {
    let query = [("live", "false"), ("as_of", "1")];
    let line = world.server.get("/v1/export", &query).text;
    let first: Value = serde_json::from_str(line.lines().next().unwrap()).unwrap();
    assert_eq!(first["record"]["kind"], "genesis");
    id_of(&first["record"]["id"])
}

#[test]
fn acts_in_another_name() {
    let world = World::new();
    let before = world.seen();
    // The regulator's record, the stranger's signature.
    let record = |body| world.server.sign(&key("regulator"), &world.space, body);
    let forged = |signed: &Signed| {
        let mut fields = common::fields(signed);
        fields["signature"] = json!(key("stranger").sign(&signed.id()).to_string());
        let mut bytes = common::canonical(signed);
        bytes["signature"] = fields["signature"].clone();
        (fields, bytes)
    };
    for body in [
        claim("drug", "risk", "mine", Regulatory),
        retract(world.id("rare")),
        supersede(world.id("rare"), world.id("none")),
        vote(world.id("rare"), -1.0),
        replace(world.server.log_id, &world.space, agent("regulator"), &key("stranger")),
    ] {
        let signed = record(body);
        let (fields, bytes) = forged(&signed);
        let path = common::path(signed.record().kind()).unwrap();
        let position = world.server.position();
        let expected = (401, "bad_signature".to_owned());
        let posted = world.server.post(path, &fields);
        assert_eq!(posted.outcome(), expected, "{}", posted.text);
        let put = world.server.put(&format!("/v1/records/{}", signed.id()), &bytes);
        assert_eq!(put.outcome(), expected, "{}", put.text);
        assert_eq!(world.server.position(), position);
    }
    // Consent that the new key did not give.
    let mut replacement =
        record(replace(world.server.log_id, &world.space, agent("regulator"), &key("stranger")));
    let mut fields = common::fields(&replacement);
    fields["consent"] = json!("00".repeat(64));
    let answer = world.server.post("/v1/agent", &fields);
    assert_eq!(answer.outcome(), (400, "invalid_field".to_owned()), "{}", answer.text);
    assert_eq!(answer.json()["field"], "consent");
    // A record for another database, and one that names the regulator only as who it replaces.
    let mut elsewhere = Server::start();
    elsewhere.log_id = LogId([9; 16]);
    let foreign = elsewhere.sign(&key("stranger"), &world.space, vote(world.id("rare"), -1.0));
    world.refused("vote with a record of another database", &foreign, 409, "wrong_log");
    replacement = elsewhere.sign(&key("regulator"), &world.space, revoke(agent("doctor"), 1));
    world.refused("replay another database's revocation", &replacement, 409, "wrong_log");
    same(&world.seen(), &before, "all of it");
}

#[test]
fn claims_that_borrow_authority() {
    let world = World::new();
    let before = world.seen();
    let id = |name| world.id(name);
    let label = || {
        let class = Some(Regulatory);
        Some(Provenance { uri: Some(LABEL.into()), evidence: Some(LABEL_HASH), class })
    };
    let mut number = 0;
    let mut claims = |about: (&str, &str), change: &dyn Fn(Assertion) -> Assertion| {
        number += 1;
        change(assertion(about.0, about.1, &format!("mine {number}")))
    };
    for (act, about, change) in [
        (
            "declare the best class",
            KEYS[0],
            &(|claim| Assertion {
                source: Some(Provenance { class: Some(Regulatory), ..Provenance::default() }),
                ..claim
            }) as &dyn Fn(Assertion) -> Assertion,
        ),
        ("cite the regulator's label", KEYS[0], &|claim| Assertion { source: label(), ..claim }),
        ("cite it where only the regulator speaks", KEYS[1], &|claim| Assertion {
            source: label(),
            ..claim
        }),
        ("cite it without a class", KEYS[3], &|claim| Assertion {
            source: Some(Provenance { uri: Some(LABEL.into()), ..Provenance::default() }),
            ..claim
        }),
        ("declare itself approved", KEYS[0], &|claim| Assertion {
            lifecycle: LifecycleState::Approved,
            source: label(),
            ..claim
        }),
        ("rest on the regulator's claim", KEYS[0], &|claim| Assertion {
            derived_from: vec![id("rare")],
            source: label(),
            ..claim
        }),
        ("revise the regulator's claim", KEYS[0], &|claim| Assertion {
            parent: Some(id("rare")),
            source: label(),
            ..claim
        }),
        ("speak in the regulator's epoch", KEYS[3], &|claim| Assertion {
            epoch: Some(id("era")),
            source: label(),
            ..claim
        }),
        ("speak by the other name", KEYS[2], &|claim| Assertion { source: label(), ..claim }),
        ("take the trial's premise", KEYS[4], &|claim| Assertion {
            derived_from: vec![id("none"), id("cause")]
                .into_iter()
                .collect::<std::collections::BTreeSet<_>>()
                .into_iter()
                .collect(),
            ..claim
        }),
        ("overrule an expert", KEYS[5], &|claim| Assertion { source: label(), ..claim }),
        ("speak about all time", KEYS[0], &|claim| Assertion {
            valid_from: Some(Millis(0)),
            valid_to: Some(Millis(1 << 50)),
            source: label(),
            ..claim
        }),
    ] {
        let own = world.harmless(act, &before, Body::Assertion(claims(about, change)));
        let standing = world.standing(own);
        assert_eq!((&standing["tier"], &standing["lifecycle"]), (&json!(5), &json!("proposed")));
        // What is one's own may go again.
        world.harmless("take it back", &before, retract(own));
    }
}

#[test]
fn acts_that_anybody_may_do() {
    let world = World::new();
    let before = world.seen();
    let id = |name| world.id(name);
    let first = world.harmless("claim", &before, claim("drug", "risk", "mine", Regulatory));
    let second = world.harmless("claim", &before, claim("drug", "dose", "mine", Regulatory));
    for (act, body) in [
        ("cosign its own", cosign(first)),
        ("cosign the regulator's", cosign(id("rare"))),
        ("cosign what was retracted", cosign(id("mistake"))),
        ("vote for its own", vote(first, 1.0)),
        ("vote against the regulator's", vote(id("rare"), -1.0)),
        ("vote for what was superseded", vote(id("old dose"), 1.0)),
        ("open an epoch of the official name", epoch("after the label change", None)),
        ("supersede its own by its own", supersede(first, second)),
        ("supersede its own by the regulator's", supersede(second, id("dose"))),
        ("retract its own", retract(first)),
        ("replace its key", {
            replace(world.server.log_id, &world.space, agent("stranger"), &key("disguise"))
        }),
    ] {
        world.harmless(act, &before, body);
    }
    // The old key has nothing more to say, the new one no more than the old.
    world.refused("use the old key", &world.sign(cosign(id("dose"))), 403, "key_replaced");
    let signed = world.server.sign(&key("disguise"), &world.space, retract(id("rare")));
    world.refused("retract under the new key", &signed, 403, "forbidden");
}

#[test]
fn crowds_of_keys() {
    let world = World::new();
    let before = world.seen();
    let votes = |name| world.resolve(KEYS[0], "votes", &[])[name].clone();
    let (rare, often) = (world.id("rare"), world.id("often"));
    let mut crowd = Vec::new();
    for n in 0..150 {
        let key = key(&format!("puppet {n}"));
        let sign = |body| world.server.sign(&key, &world.space, body);
        let own = sign(cited("drug", "risk", "mine", LABEL, Regulatory));
        let own_id = own.id();
        crowd.push(own);
        crowd.push(sign(vote(own_id, 1.0)));
        crowd.push(sign(vote(rare, -1.0)));
        crowd.push(sign(cosign(own_id)));
        crowd.push(sign(claim("drug", "dose", "mine", Regulatory)));
    }
    world.server.import(&crowd);
    same(&world.seen(), &before, "all of it");
    // All puppets of one principal are one voice, and claims from one source are, too.
    let answer = world.resolve(KEYS[0], "consensus", &[]);
    let value = |name: &str| {
        let values = answer["candidates"].as_array().unwrap();
        values.iter().find(|value| value["value"] == name).unwrap().clone()
    };
    assert_eq!(value("mine")["voices"], 1, "{answer}");
    assert_eq!((&value("mine")["agents"], &value("mine")["tier"]), (&json!(150), &json!(5)));
    // Votes are for the lens that counts them: they hold for it and for no other.
    assert!(votes("candidates").as_array().unwrap().len() > 1);
    let found = world.server.get(&format!("/v1/assertions/{rare}"), &[]).expect(200);
    let against = found["facts"].as_array().unwrap().iter().filter(|fact| fact["weight"] == -1.0);
    assert_eq!(against.count(), 150);
    let others = world.server.get(&format!("/v1/assertions/{often}"), &[]).expect(200);
    assert_eq!(others["facts"], json!([]));
}

#[test]
fn a_caller_without_a_key() {
    let world = World::new();
    let before = world.seen();
    let id = |name: &str| world.id(name).to_string();
    let at = "2024-06-01T00:00:00Z";
    let claim = json!({
        "space": "clinic", "subject": "drug", "predicate": "risk", "object": "mine", "at": at,
        "lifecycle": "approved", "derived_from": [id("rare")],
        "source": {"uri": LABEL, "class": "regulatory"},
    });
    let answer = world.server.post("/v1/assert", &claim).expect(201);
    assert_eq!(answer["custodial"], true);
    same(&world.seen(), &before, "all of it");
    let own = answer["id"].as_str().unwrap();
    for (path, body) in [
        ("/v1/lifecycle", json!({"assertion": own, "state": "approved"})),
        ("/v1/source", json!({"keys": [{"uri": LABEL}], "class": "anecdotal"})),
        ("/v1/retract", json!({"record": id("rare")})),
        ("/v1/retract", json!({"source": {"uri": LABEL}})),
        ("/v1/supersede", json!({"old": id("rare"), "new": own})),
        ("/v1/predicate", json!({"name": "risk", "cardinality": "many"})),
        ("/v1/alias", json!({"subject": "drug", "other": "other"})),
        ("/v1/lens", json!({"name": "x", "version": 1, "weight": "1.0", "aggregate": "sum"})),
        ("/v1/gold", json!({"subject": "drug", "predicate": "risk", "object": "mine"})),
        ("/v1/agent", json!({"key": agent("stranger").to_string(), "ceiling": "expert"})),
        ("/v1/epoch", json!({"name": "x", "supersedes": id("era"), "mode": "replace"})),
        ("/v1/trust_snapshot", {
            json!({"input_position": 1, "config": "00".repeat(32), "table": "00".repeat(32)})
        }),
    ] {
        let mut body = body;
        body["at"] = json!(at);
        body["space"] = json!("clinic");
        let position = world.server.position();
        let answer = world.server.post(path, &body);
        assert_eq!(answer.outcome(), (403, "forbidden".to_owned()), "{path}: {}", answer.text);
        assert_eq!(world.server.position(), position, "{path}");
    }
    for (path, body) in [
        ("/v1/vote", json!({"assertion": id("rare"), "weight": -1})),
        ("/v1/cosign", json!({"assertion": own})),
        ("/v1/epoch", json!({"name": "after the label change"})),
        ("/v1/retract", json!({"record": own})),
    ] {
        let mut body = body;
        body["at"] = json!(at);
        body["space"] = json!("clinic");
        world.server.post(path, &body).expect(201);
        same(&world.seen(), &before, path);
    }
}
