//! The list of keys: what it takes, what it refuses, and what a crash leaves of it.

use std::sync::Arc;
use std::time::Duration;

use stemedb_io::sim::{SimClock, SimVfs, world};

use super::*;

const DATA: &str = "/data/stemedb";
/// 2026-11-29.
const NOW: i64 = 1_795_910_400_000;

fn dir() -> &'static Path {
    Path::new(DATA)
}

fn new(name: &str, role: KeyRole) -> NewKey {
    NewKey {
        name: name.into(),
        role,
        principal: None,
        spaces: None,
        agent: None,
        expires_at: None,
        quota: None,
    }
}

fn open(env: &Env) -> KeyStore {
    KeyStore::open(env, dir()).unwrap().0
}

/// The key in the file of a first start.
fn first(vfs: &SimVfs) -> Token {
    let bytes = vfs.medium(&first_key_file(dir())).unwrap();
    Token::parse(std::str::from_utf8(&bytes).unwrap().trim_end()).unwrap()
}

fn made() -> (SimVfs, Arc<SimClock>, Env) {
    world(7, NOW)
}

#[test]
fn a_first_start_makes_one_admin_and_only_once() {
    let (vfs, _, env) = made();
    let (store, told) = KeyStore::open(&env, dir()).unwrap();
    assert_eq!(told, Some(first_key_file(dir())));
    let key = store.authenticate(&first(&vfs)).unwrap();
    assert_eq!(
        (key.role(), key.principal.as_str(), key.name()),
        (KeyRole::Admin, "local", "local")
    );
    // Nothing on the disk but the file for its owner holds the secret.
    let secret = first(&vfs).reveal();
    let list = vfs.medium(&keys_file(dir())).unwrap();
    assert!(!String::from_utf8(list).unwrap().contains(&secret[secret.len() - 48..]));
    drop(store);
    let (store, told) = KeyStore::open(&env, dir()).unwrap();
    assert_eq!((told, store.list().len()), (None, 1));
    assert!(store.authenticate(&first(&vfs)).is_ok());
}

/// A disk that hangs in a change must not hold up those who ask.
#[test]
fn nobody_waits_for_a_change_to_be_written() {
    let (vfs, _, env) = made();
    let store = open(&env);
    let changing = store.change.lock().unwrap();
    assert!(store.authenticate(&first(&vfs)).is_ok());
    assert!(store.list()[0].last_used_at.is_none());
    drop(changing);
    assert!(store.authenticate(&first(&vfs)).is_ok());
    assert!(store.list()[0].last_used_at.is_some());
}

#[test]
fn one_process_has_the_keys() {
    let (_, _, env) = made();
    let store = open(&env);
    assert!(matches!(KeyStore::open(&env, dir()), Err(KeyError::InUse(_))));
    assert!(matches!(reset_keys(&env, dir()), Err(KeyError::InUse(_))));
    drop(store);
    reset_keys(&env, dir()).unwrap();
}

#[test]
fn keys_live_expire_rotate_and_are_revoked() {
    let (vfs, clock, env) = made();
    let store = open(&env);
    let minute = Duration::from_secs(60);
    let end = Time(Millis(NOW + 60_000));
    let (short, info) =
        store.create(&NewKey { expires_at: Some(end), ..new("short", KeyRole::Reader) }).unwrap();
    assert_eq!((info.state.as_str(), info.principal.as_str()), ("active", "short"));
    assert!(store.authenticate(&short).is_ok());
    clock.step(minute);
    assert_eq!(store.authenticate(&short).unwrap_err(), Denied::Expired);

    let (one, info) = store.create(&new("long", KeyRole::Writer)).unwrap();
    let id = info.id;
    let (two, info) = store.rotate(&id, 90).unwrap();
    assert_eq!(info.old_secret_until, Some(Time(Millis(NOW + 150_000))));
    assert_eq!(one.id(), two.id());
    assert!(store.authenticate(&one).is_ok() && store.authenticate(&two).is_ok());
    clock.step(minute + minute / 2);
    assert_eq!(store.authenticate(&one).unwrap_err(), Denied::Expired);
    assert!(store.authenticate(&two).is_ok());
    // A second rotation ends the grace of the first secret at once.
    let (three, _) = store.rotate(&id, 1_000).unwrap();
    let (four, _) = store.rotate(&id, 1_000).unwrap();
    assert_eq!(store.authenticate(&two).unwrap_err(), Denied::Unknown);
    assert!(store.authenticate(&three).is_ok() && store.authenticate(&four).is_ok());
    let (five, info) = store.rotate(&id, 0).unwrap();
    assert_eq!(info.old_secret_until, None);
    assert_eq!(store.authenticate(&four).unwrap_err(), Denied::Unknown);
    assert!(matches!(
        store.rotate(&id, GRACE_SECONDS_MAX + 1),
        Err(KeyError::Invalid { field: "grace_seconds", .. })
    ));

    let other = Token::generate(&*env.rng, id_bytes(&id));
    assert_eq!(store.authenticate(&other).unwrap_err(), Denied::Unknown);
    let nobody = Token::generate(&*env.rng, None);
    assert_eq!(store.authenticate(&nobody).unwrap_err(), Denied::Unknown);

    let revoked = store.revoke(&id).unwrap();
    assert_eq!(revoked.state, "revoked");
    assert_eq!(store.revoke(&id).unwrap(), revoked);
    assert_eq!(store.authenticate(&five).unwrap_err(), Denied::Unknown);
    assert!(matches!(store.rotate(&id, 0), Err(KeyError::Revoked(_))));
    assert!(matches!(store.revoke("0000000000000000"), Err(KeyError::Unknown(_))));
    // All of it is there after a start.
    let before = store.list();
    drop(store);
    let store = open(&env);
    let without_use = |list: Vec<KeyInfo>| {
        list.into_iter().map(|key| KeyInfo { last_used_at: None, ..key }).collect::<Vec<_>>()
    };
    assert_eq!(without_use(store.list()), without_use(before));
    assert!(store.authenticate(&first(&vfs)).is_ok());
}

#[test]
fn a_name_is_one_live_key_and_the_last_admin_stays() {
    let (vfs, clock, env) = made();
    let store = open(&env);
    let admin = first(&vfs).id();
    assert!(matches!(store.revoke(&admin), Err(KeyError::LastAdmin(_))));
    let end = Some(Time(Millis(NOW + 1_000)));
    store.create(&NewKey { expires_at: end, ..new("second", KeyRole::Admin) }).unwrap();
    clock.step(Duration::from_secs(2));
    // One that has expired makes no keys.
    assert!(matches!(store.revoke(&admin), Err(KeyError::LastAdmin(_))));
    assert!(matches!(
        store.create(&new("local", KeyRole::Admin)),
        Err(KeyError::NameTaken(name)) if name == "local"
    ));
    store.create(&new("second", KeyRole::Admin)).unwrap();
    store.revoke(&admin).unwrap();
    // The node's own owner has the node's rights in the log.
    assert!(matches!(
        store.create(&new("local", KeyRole::Reader)),
        Err(KeyError::Invalid { field: "name", .. })
    ));
    store.create(&new("local", KeyRole::Admin)).unwrap();
}

#[test]
fn what_makes_no_sense_is_refused_by_field() {
    let (_, _, env) = made();
    let store = open(&env);
    let spaces = |names: &[&str]| Some(names.iter().map(|name| SpaceText::from(*name)).collect());
    let agent = Some(AgentKey(stemedb_model::SigningKey::from_seed(&[1; 32]).agent_id()));
    let many: Vec<String> = (0..=SPACES_MAX).map(|n| format!("s{n}")).collect();
    let many: Vec<&str> = many.iter().map(String::as_str).collect();
    for (expected, key) in [
        ("name", new("", KeyRole::Reader)),
        ("name", new("A b", KeyRole::Reader)),
        ("principal", NewKey { principal: Some("é".into()), ..new("a", KeyRole::Reader) }),
        ("spaces", NewKey { spaces: spaces(&[]), ..new("a", KeyRole::Reader) }),
        ("spaces", NewKey { spaces: spaces(&["A"]), ..new("a", KeyRole::Reader) }),
        ("spaces", NewKey { spaces: spaces(&many), ..new("a", KeyRole::Reader) }),
        ("spaces", NewKey { spaces: spaces(&["a"]), ..new("a", KeyRole::Operator) }),
        ("agent", NewKey { agent, ..new("a", KeyRole::Reader) }),
        ("expires_at", NewKey { expires_at: Some(Time(Millis(NOW))), ..new("a", KeyRole::Reader) }),
    ] {
        match store.create(&key) {
            Err(KeyError::Invalid { field, .. }) => assert_eq!(field, expected, "{key:?}"),
            other => panic!("{key:?}: {other:?}"),
        }
    }
    let key = NewKey { spaces: spaces(&["b", "a", "b"]), ..new("a", KeyRole::Writer) };
    let (token, info) = store.create(&key).unwrap();
    assert_eq!(info.spaces, spaces(&["a", "b"]));
    assert_eq!(store.authenticate(&token).unwrap().spaces.as_ref().unwrap().len(), 2);
}

#[test]
fn the_last_use_is_known_by_the_hour_and_written_when_asked() {
    let (vfs, clock, env) = made();
    let store = open(&env);
    let token = first(&vfs);
    let written = || vfs.medium(&keys_file(dir())).unwrap();
    let before = written();
    store.flush().unwrap();
    assert_eq!(written(), before);
    clock.step(Duration::from_secs(90));
    store.authenticate(&token).unwrap();
    assert_eq!(written(), before, "a request writes nothing");
    let used = |store: &KeyStore| store.list().first().unwrap().last_used_at;
    let hour = Some(Time(Millis(NOW - NOW % USED_MS)));
    assert_eq!(used(&store), hour);
    store.flush().unwrap();
    drop(store);
    assert_eq!(used(&open(&env)), hour);
}

#[test]
fn a_reset_revokes_all_and_makes_one() {
    let (vfs, _, env) = made();
    let store = open(&env);
    let old = first(&vfs);
    let (writer, _) = store.create(&new("writer", KeyRole::Writer)).unwrap();
    drop(store);
    let reset = reset_keys(&env, dir()).unwrap();
    assert_eq!((reset.revoked, reset.set_aside, reset.file), (2, None, first_key_file(dir())));
    let store = open(&env);
    assert_eq!(store.list().len(), 3);
    assert!(store.authenticate(&old).is_err() && store.authenticate(&writer).is_err());
    assert_eq!(store.authenticate(&first(&vfs)).unwrap().role(), KeyRole::Admin);
}

/// Every byte, and every length: a damaged list never lets anybody in, and never looks like none.
#[test]
fn a_damaged_list_is_refused_by_name_with_the_remedy() {
    let (vfs, _, env) = made();
    drop(open(&env));
    let file = keys_file(dir());
    let whole = vfs.medium(&file).unwrap();
    let mut broken: Vec<Vec<u8>> = (0..whole.len())
        .map(|at| {
            let mut bytes = whole.clone();
            bytes[at] ^= 1;
            bytes
        })
        .collect();
    broken.extend((0..whole.len()).map(|len| whole[..len].to_vec()));
    broken.push([&whole[..], b"x"].concat());
    let foreign = br#"{"format":2,"keys":[]}"#;
    let hash = blake3::hash(foreign).to_hex();
    broken.push([foreign, &b"\n"[..], hash.as_bytes(), b"\n"].concat());
    for bytes in broken {
        vfs.put(&file, bytes.clone()).unwrap();
        let error = KeyStore::open(&env, dir()).err().unwrap();
        let KeyError::Damaged { .. } = &error else { panic!("{error}") };
        let text = error.to_string();
        assert!(text.contains("api-keys.json") && text.contains("admin keys reset"), "{text}");
    }
    let reset = reset_keys(&env, dir()).unwrap();
    assert!(vfs.medium(&reset.set_aside.unwrap()).is_some());
    assert!(open(&env).authenticate(&first(&vfs)).is_ok());
}

/// Power is lost behind each change of the file system, in each act: afterwards there is the list of
/// before or the list of after, and what was answered holds.
#[test]
fn after_a_crash_there_is_the_old_list_or_the_new_one() {
    type Act = fn(&KeyStore, &str) -> Result<(), KeyError>;
    let acts: [(&str, Act); 3] = [
        ("create", |store, _| store.create(&new("more", KeyRole::Reader)).map(drop)),
        ("rotate", |store, id| store.rotate(id, 60).map(drop)),
        ("revoke", |store, id| store.revoke(id).map(drop)),
    ];
    let (mut olds, mut news) = (0, 0);
    for (what, act) in acts {
        for seed in 0..5 {
            for changes in 0.. {
                let (vfs, _, env) = world(seed, NOW);
                let store = open(&env);
                let (_, info) = store.create(&new("writer", KeyRole::Writer)).unwrap();
                let before = store.list();
                let from = vfs.changes();
                vfs.power_off_after(changes);
                let told = act(&store, &info.id).is_ok();
                let after = store.list();
                let done = vfs.changes() < from + changes;
                drop(store);
                let env = Env { vfs: Arc::new(vfs.crash()), ..env };
                let found = open(&env).list();
                if told {
                    assert_eq!(found, after, "{what}, seed {seed}, {changes}");
                    assert_ne!(found, before, "{what}");
                    news += 1;
                } else {
                    assert_eq!(after, before, "{what}: what failed is not in force");
                    olds += usize::from(found == before);
                    let same = |a: &[KeyInfo]| a.len() >= before.len();
                    assert!(same(&found), "{what}, seed {seed}, {changes}: {found:?}");
                }
                if done {
                    break;
                }
            }
        }
    }
    assert!(olds > 10 && news > 10, "{olds} {news}");
}

/// The same of a first start and of a reset: whoever is told of a file can use what is in it.
#[test]
fn a_first_start_and_a_reset_survive_loss_of_power() {
    let mut told = 0;
    for reset in [false, true] {
        for seed in 0..5 {
            for changes in 0.. {
                let (vfs, _, env) = world(seed, NOW);
                if reset {
                    drop(open(&env));
                }
                let from = vfs.changes();
                vfs.power_off_after(changes);
                let done = match reset {
                    false => KeyStore::open(&env, dir()).is_ok(),
                    true => reset_keys(&env, dir()).is_ok(),
                };
                let ended = vfs.changes() < from + changes;
                let crashed = vfs.crash();
                let env = Env { vfs: Arc::new(crashed.clone()), ..env };
                let (store, again) = KeyStore::open(&env, dir()).unwrap();
                assert!(!done || again.is_none(), "seed {seed}, {changes}");
                if done || again.is_some() {
                    let admin = store.authenticate(&first(&crashed)).unwrap();
                    assert_eq!(admin.role(), KeyRole::Admin);
                    told += 1;
                }
                if ended {
                    break;
                }
            }
        }
    }
    assert!(told > 10, "{told}");
}
