//! Every kind of record, tried by everyone: who may write it, what the others are told, and
//! whether the answers moved. What is refused leaves no trace: the position and the answer root
//! stay.
//!
//! Each try has a space of its own, so that no try sees another. Each is made through both doors:
//! as fields to the path of its kind, and as canonical bytes to its id.
#![allow(
    clippy::unwrap_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "test support: what is not there fails the test"
)]

mod common;

use common::bodies::*;
use common::{Server, agent, key};
use stemedb_model::SourceClass::{Anecdotal, Clinical, Community, Expert, Regulatory};
use stemedb_model::*;

/// Who tries, in the order of the letters of a row.
const COLUMNS: [&str; 10] = [
    "stranger",
    "author",
    "replaced",
    "revoked",
    "reviewer",
    "low curator",
    "curator",
    "trust",
    "registrar",
    "root",
];

/// What the answers do once a record is in.
#[derive(Debug, Clone, Copy, PartialEq)]
enum Answers {
    Stay,
    Move,
}
use Answers::{Move, Stay};

/// One act. `expected` has a letter for each of [`COLUMNS`]: `+` recorded, `-` no right to it,
/// `p` the key gave its place to another, `v` the key is revoked, `c` conflict, `k` wrong kind.
struct Row {
    act: &'static str,
    expected: &'static str,
    answers: Answers,
    body: fn(&mut Scene<'_>) -> Body,
}

fn row(
    act: &'static str,
    expected: &'static str,
    answers: Answers,
    body: fn(&mut Scene<'_>) -> Body,
) -> Row {
    Row { act, expected, answers, body }
}

fn refused(act: &'static str, expected: &'static str, body: fn(&mut Scene<'_>) -> Body) -> Row {
    assert!(!expected.contains('+'), "{act}: {expected}");
    Row { act, expected, answers: Stay, body }
}

/// Anybody in good standing.
const ANY: &str = "++pv++++++";
const REVIEWERS: &str = "--pv+----+";
const REGISTRARS: &str = "--pv----++";
/// The author, and curators whose ceiling is as good as the author's claims.
const OWN_OR_CURATORS: &str = "-+pv--+--+";

/// The address that the witness cites.
const CITED: &str = "https://example.org/cited";

/// One space with its people, before the act.
struct Scene<'a> {
    server: &'a Server,
    space: Space,
    me: &'static str,
    staged: Vec<Signed>,
}

impl<'a> Scene<'a> {
    fn new(server: &'a Server, column: usize) -> Self {
        let space = Space::parse(&format!("space-{column}")).unwrap();
        let mut scene = Self { server, space, me: COLUMNS[column], staged: Vec::new() };
        for (name, ceiling, roles) in [
            ("author", Expert, &[][..]),
            ("witness", Regulatory, &[]),
            ("replaced", Regulatory, &Role::ALL),
            ("revoked", Regulatory, &Role::ALL),
            ("reviewer", Expert, &[Role::Reviewer]),
            ("low curator", Community, &[Role::Curator]),
            ("curator", Expert, &[Role::Curator]),
            ("trust", Expert, &[Role::Trust]),
            ("registrar", Regulatory, &[Role::Registrar]),
        ] {
            scene.write("root", register(agent(name), ceiling, roles));
        }
        // Written while the key was good.
        scene.write("revoked", claim("an old thing", "colour", "grey", Expert));
        let body = scene.replacement("replaced", &key("successor"));
        scene.write("replaced", body);
        scene.write("root", revoke(agent("revoked"), 1));
        scene
    }

    fn key(&self, name: &str) -> SigningKey {
        if name == "root" { self.server.root.clone() } else { key(name) }
    }

    /// Into the log before the act.
    fn write(&mut self, who: &str, body: Body) -> RecordId {
        let signed = self.server.sign(&self.key(who), &self.space, body);
        let id = signed.id();
        self.staged.push(signed);
        id
    }

    fn replacement(&self, old: &str, new: &SigningKey) -> Body {
        replace(self.server.log_id, &self.space, self.key(old).agent_id(), new)
    }

    /// Two equally good claims of two values. The author's is the newer, so it wins ties.
    fn dispute(&mut self) -> RecordId {
        self.write("witness", cited("thing", "colour", "red", CITED, Clinical));
        self.write("author", claim("thing", "colour", "blue", Expert))
    }

    /// The same on an anecdote of the author.
    fn poor_dispute(&mut self) -> RecordId {
        self.write("witness", claim("thing", "colour", "red", Expert));
        self.write("author", claim("thing", "colour", "blue", Anecdotal))
    }

    fn elsewhere(&mut self) -> RecordId {
        self.write("author", claim("elsewhere", "colour", "blue", Expert))
    }

    /// An epoch of the author with a claim under it.
    fn epoch_with_claim(&mut self) -> RecordId {
        self.dispute();
        let id = self.write("author", epoch("before", None));
        let claim = Assertion { epoch: Some(id), ..assertion("thing", "colour", "green") };
        self.write("author", Body::Assertion(claim));
        id
    }
}

fn rows(kind: Kind) -> Vec<Row> {
    use LifecycleState::{Approved, Deprecated, Proposed, Rejected, UnderReview};
    match kind {
        Kind::Genesis => vec![refused("a second genesis", "cccccccccc", |scene| {
            let root = scene.key(scene.me).agent_id();
            Body::Genesis(Genesis { format: 1, root })
        })],
        Kind::Assertion => vec![row("assert", ANY, Move, |scene| {
            scene.dispute();
            claim("thing", "colour", "green", Expert)
        })],
        Kind::Cosign => vec![row("cosign", ANY, Stay, |scene| cosign(scene.dispute()))],
        Kind::Vote => vec![
            row("vote against", ANY, Move, |scene| vote(scene.dispute(), -1.0)),
            row("abstain", ANY, Stay, |scene| vote(scene.dispute(), 0.0)),
        ],
        Kind::Epoch => vec![
            row("open an epoch", ANY, Stay, |scene| {
                scene.dispute();
                epoch("mine", None)
            }),
            row("replace an epoch", REGISTRARS, Move, |scene| {
                let before = scene.epoch_with_claim();
                epoch("after", Some((before, EpochMode::Replace)))
            }),
            row("extend an epoch", REGISTRARS, Stay, |scene| {
                let before = scene.epoch_with_claim();
                epoch("after", Some((before, EpochMode::Extend)))
            }),
        ],
        Kind::Source => vec![row("register a source", REGISTRARS, Move, |scene| {
            scene.dispute();
            source(CITED, Clinical)
        })],
        Kind::Retract => retractions(),
        Kind::Supersede => vec![
            row("supersede a claim", OWN_OR_CURATORS, Move, |scene| {
                let old = scene.dispute();
                supersede(old, scene.elsewhere())
            }),
            row("supersede an anecdote", "-+pv-++--+", Move, |scene| {
                let old = scene.poor_dispute();
                supersede(old, scene.elsewhere())
            }),
        ],
        Kind::Predicate => vec![row("register a predicate", REGISTRARS, Move, |scene| {
            scene.dispute();
            predicate("colour", Cardinality::Many)
        })],
        Kind::Alias => vec![row("join two subjects", REGISTRARS, Move, |scene| {
            scene.dispute();
            scene.elsewhere();
            alias("thing", "elsewhere")
        })],
        Kind::Agent => agents(),
        Kind::Lens => vec![
            row("define a lens", REGISTRARS, Stay, |scene| {
                scene.dispute();
                lens("house", 1)
            }),
            refused("define it again", "--pv----cc", |scene| {
                scene.write("registrar", lens("house", 1));
                lens("house", 1)
            }),
        ],
        Kind::Gold => vec![row("state a gold value", REGISTRARS, Stay, |scene| {
            scene.dispute();
            gold("thing", "colour", "red")
        })],
        Kind::TrustSnapshot => vec![row("change the trust", "--pv---+++", Stay, |scene| {
            scene.dispute();
            trust(1)
        })],
        Kind::Lifecycle => vec![
            row("approve", REVIEWERS, Stay, |scene| lifecycle(scene.dispute(), Approved)),
            row("deprecate", REVIEWERS, Move, |scene| lifecycle(scene.dispute(), Deprecated)),
            row("reject", REVIEWERS, Move, |scene| lifecycle(scene.dispute(), Rejected)),
            row("review", REVIEWERS, Stay, |scene| lifecycle(scene.dispute(), UnderReview)),
            row("propose what was rejected", REVIEWERS, Move, |scene| {
                let claim = scene.dispute();
                scene.write("reviewer", lifecycle(claim, Rejected));
                lifecycle(claim, Proposed)
            }),
        ],
    }
}

fn retractions() -> Vec<Row> {
    vec![
        row("retract a claim", OWN_OR_CURATORS, Move, |scene| retract(scene.dispute())),
        row("retract an anecdote", "-+pv-++--+", Move, |scene| retract(scene.poor_dispute())),
        row("retract a vote", OWN_OR_CURATORS, Move, |scene| {
            let claim = scene.dispute();
            retract(scene.write("author", vote(claim, -1.0)))
        }),
        row("retract a cosign", OWN_OR_CURATORS, Stay, |scene| {
            let claim = scene.dispute();
            retract(scene.write("author", cosign(claim)))
        }),
        row("retract a supersession", OWN_OR_CURATORS, Move, |scene| {
            let (old, new) = (scene.dispute(), scene.elsewhere());
            retract(scene.write("author", supersede(old, new)))
        }),
        row("undo the author's retraction", OWN_OR_CURATORS, Move, |scene| {
            let claim = scene.dispute();
            retract(scene.write("author", retract(claim)))
        }),
        row("undo a curator's retraction", "--pv--+--+", Move, |scene| {
            let claim = scene.dispute();
            retract(scene.write("curator", retract(claim)))
        }),
        row("undo that undoing", "--pv--+--+", Move, |scene| {
            let claim = scene.dispute();
            let retraction = scene.write("curator", retract(claim));
            retract(scene.write("curator", retract(retraction)))
        }),
        row("retract a verdict", REVIEWERS, Move, |scene| {
            let claim = scene.dispute();
            retract(scene.write("reviewer", lifecycle(claim, LifecycleState::Rejected)))
        }),
        row("retract a source record", REGISTRARS, Move, |scene| {
            scene.dispute();
            retract(scene.write("registrar", source(CITED, Clinical)))
        }),
        row("undo that", REGISTRARS, Move, |scene| {
            scene.dispute();
            let listed = scene.write("registrar", source(CITED, Clinical));
            retract(scene.write("registrar", retract(listed)))
        }),
        row("retract a source", REGISTRARS, Move, |scene| {
            scene.dispute();
            retract_source(uri(CITED))
        }),
        row("undo that", REGISTRARS, Move, |scene| {
            scene.dispute();
            retract(scene.write("registrar", retract_source(uri(CITED))))
        }),
        row("retract the author's epoch", "-+pv----++", Stay, |scene| {
            retract(scene.epoch_with_claim())
        }),
        row("retract a superseding epoch", REGISTRARS, Move, |scene| {
            let before = scene.epoch_with_claim();
            let after = epoch("after", Some((before, EpochMode::Replace)));
            retract(scene.write("registrar", after))
        }),
        row("retract a predicate", REGISTRARS, Move, |scene| {
            scene.dispute();
            retract(scene.write("registrar", predicate("colour", Cardinality::Many)))
        }),
        row("retract an alias", REGISTRARS, Move, |scene| {
            scene.dispute();
            scene.elsewhere();
            retract(scene.write("registrar", alias("thing", "elsewhere")))
        }),
        row("retract a lens", REGISTRARS, Stay, |scene| {
            retract(scene.write("registrar", lens("house", 1)))
        }),
        row("retract a gold value", REGISTRARS, Stay, |scene| {
            scene.dispute();
            retract(scene.write("registrar", gold("thing", "colour", "red")))
        }),
        refused("retract an agent record", "kkpvkkkkkk", |scene| {
            let registration = register(agent("newcomer"), Expert, &[]);
            retract(scene.write("registrar", registration))
        }),
        refused("retract a trust snapshot", "kkpvkkkkkk", |scene| {
            retract(scene.write("trust", trust(1)))
        }),
    ]
}

fn agents() -> Vec<Row> {
    vec![
        row("register an agent", REGISTRARS, Move, |scene| {
            scene.dispute();
            scene.write("outsider", claim("thing", "colour", "green", Expert));
            register(agent("outsider"), Expert, &[Role::Curator])
        }),
        row("register a registrar", "--pv-----+", Stay, |_| {
            register(agent("outsider"), Clinical, &[Role::Registrar])
        }),
        row("demote a registrar", "--pv-----+", Stay, |_| {
            register(agent("registrar"), Clinical, &[])
        }),
        row("reinstate a revoked registrar", "--pv-----+", Move, |_| {
            register(agent("revoked"), Clinical, &[])
        }),
        refused("register a replaced key", "--pv-----c", |_| {
            register(agent("replaced"), Clinical, &[])
        }),
        refused("register root", "ccpvcccccc", |scene| {
            register(scene.server.root.agent_id(), Clinical, &[])
        }),
        row("revoke an agent", REGISTRARS, Move, |scene| {
            scene.dispute();
            revoke(agent("author"), 1)
        }),
        row("revoke a registrar and what it registered", "--pv-----+", Move, |scene| {
            scene.dispute();
            scene.write("registrar", predicate("colour", Cardinality::Many));
            revoke(agent("registrar"), 1)
        }),
        refused("revoke root", "ccpvcccccc", |scene| revoke(scene.server.root.agent_id(), 1)),
        refused("replace one's key by a known one", "ccpvcccccc", |scene| {
            scene.replacement(scene.me, &key("witness"))
        }),
        // Last: from here on root is another key, in every space.
        row("replace one's key", ANY, Stay, |scene| {
            scene.dispute();
            // Root's must be new in every space.
            scene.replacement(scene.me, &key(&format!("heir of {}", scene.me)))
        }),
    ]
}

/// Status and code, or word, of a letter.
fn meaning(letter: char) -> (u16, String) {
    let (status, word) = match letter {
        '+' => (201, "created"),
        '-' => (403, "forbidden"),
        'p' => (403, "key_replaced"),
        'v' => (403, "key_revoked"),
        'c' => (409, "conflict"),
        'k' => (409, "wrong_kind"),
        _ => panic!("{letter} is no outcome"),
    };
    (status, word.to_owned())
}

fn check(kind: Kind) {
    for Row { act, expected, answers, body } in rows(kind) {
        let server = Server::start();
        for (column, letter) in expected.chars().enumerate() {
            let mut scene = Scene::new(&server, column);
            let who = format!("{} tries to {act}", scene.me);
            let body = body(&mut scene);
            assert_eq!(body.kind(), kind, "{who}");
            server.import(&scene.staged);
            let signed = server.sign(&scene.key(scene.me), &scene.space, body);
            let (position, root) = (server.position(), server.answer_root());
            let expected = meaning(letter);
            let recorded = expected.0 == 201;

            if let Some(answer) = server.post_record(&signed) {
                assert_eq!(answer.outcome(), expected, "{who}: {}", answer.text);
            }
            let answer = server.put_record(&signed);
            let again = if recorded { (200, "exists".to_owned()) } else { expected };
            assert_eq!(answer.outcome(), again, "{who}: {}", answer.text);

            let found = server.get(&format!("/v1/records/{}", signed.id()), &[]);
            assert_eq!(found.status, if recorded { 200 } else { 404 }, "{who}");
            assert_eq!(server.position(), position + u64::from(recorded), "{who}: position");
            if recorded {
                assert_eq!(answer.json()["position"], position + 1, "{who}");
                assert_eq!(found.json()["record"]["id"], signed.id().to_string(), "{who}");
            }
            let moved = server.answer_root() != root;
            assert_eq!(moved, recorded && answers == Move, "{who}: whether the answers moved");
        }
    }
}

#[test]
fn genesis_exists_and_stays_the_only_one() {
    let server = Server::start();
    let first = server.get("/v1/export", &[("live", "false"), ("as_of", "1")]).text;
    let line: serde_json::Value = serde_json::from_str(&first).unwrap();
    let (id, record) = (line["record"]["id"].as_str().unwrap(), &line["record"]);
    assert_eq!(record["kind"], "genesis");
    let answer = server.put(&format!("/v1/records/{id}"), record).expect(200);
    assert_eq!((&answer["position"], &answer["status"]), (&1.into(), &"exists".into()));
}

macro_rules! kinds {
    ($($name:ident: $kind:ident,)*) => {
        $(#[test] fn $name() { check(Kind::$kind); })*

        #[test]
        fn no_kind_is_left_out() {
            let tried = [$(Kind::$kind),*];
            assert_eq!(tried, Kind::ALL);
            for row in Kind::ALL.iter().flat_map(|kind| rows(*kind)) {
                assert_eq!(row.expected.len(), COLUMNS.len(), "{}", row.act);
            }
        }
    };
}

kinds! {
    genesis: Genesis,
    asserting: Assertion,
    cosigning: Cosign,
    voting: Vote,
    epochs: Epoch,
    sources: Source,
    retracting: Retract,
    superseding: Supersede,
    predicates: Predicate,
    aliases: Alias,
    agents_and_roles: Agent,
    lenses: Lens,
    gold_values: Gold,
    trust_snapshots: TrustSnapshot,
    lifecycle_records: Lifecycle,
}
