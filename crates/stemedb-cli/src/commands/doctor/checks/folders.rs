//! Are the folders there, whose are they, and who else may read what is secret?

use std::fs::Metadata;
use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use super::super::finding::{Finding, quoted};
use super::super::site::Site;

/// More names than these of one kind say nothing that the first do not.
const NAMED: usize = 3;

/// What a file holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Holds {
    /// A folder of the node, by its role.
    Folder(&'static str),
    /// A private key, or the secret of an API key: a start refuses one that others may read.
    Secret,
    /// The door that needs no key.
    Socket,
    /// Anything else that belongs to the node.
    State,
}

#[derive(Debug, Clone)]
enum Found {
    Missing,
    /// It cannot be looked at, and why.
    Refused(String),
    Here {
        mode: u32,
        owner: u32,
    },
}

#[derive(Debug, Clone)]
struct File {
    path: PathBuf,
    holds: Holds,
    found: Found,
}

struct Facts {
    files: Vec<File>,
    /// How `serve` would make the database.
    serve: String,
}

pub(super) fn look(site: &Site) -> Vec<Finding> {
    judge(&Facts { files: read(site), serve: format!("stemedb serve{}", site.here) })
}

fn read(site: &Site) -> Vec<File> {
    let data_dir = &site.config.server.data_dir;
    let (mut files, mut inside) = (Vec::new(), Vec::new());
    for place in &site.places {
        files.push(file(&place.path, Holds::Folder(place.role)));
        // The folder above holds these folders; what else is there is not ours.
        if place.role != "data" {
            inside.push(place.path.clone());
        }
    }
    let custodial = stemedb_server::custodial_dir(data_dir);
    inside.push(custodial.clone());
    let root = site.config.node_dir().join("root.key");
    let first = stemedb_server::first_key_file(data_dir);
    let socket = site.config.admin_socket();
    for folder in inside {
        let Ok(entries) = std::fs::read_dir(&folder) else { continue };
        let mut paths: Vec<PathBuf> = entries.flatten().map(|entry| entry.path()).collect();
        paths.sort();
        files.extend(paths.into_iter().map(|path| {
            let custodial = path.parent() == Some(custodial.as_path());
            let holds = if custodial || path == root || path == first {
                Holds::Secret
            } else if Some(&path) == socket.as_ref() {
                Holds::Socket
            } else {
                Holds::State
            };
            file(&path, holds)
        }));
    }
    files
}

fn file(path: &Path, holds: Holds) -> File {
    let found = match std::fs::metadata(path) {
        Ok(found) => here(&found),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Found::Missing,
        Err(error) => Found::Refused(error.to_string()),
    };
    File { path: path.to_owned(), holds, found }
}

fn here(found: &Metadata) -> Found {
    Found::Here { mode: found.mode() & 0o7777, owner: found.uid() }
}

fn judge(facts: &Facts) -> Vec<Finding> {
    let mut findings = Vec::new();
    let mut owner = None;
    for File { path, holds, found } in &facts.files {
        let Holds::Folder(role) = *holds else { continue };
        let shown = path.display();
        match found {
            Found::Missing if role == "data" => {
                let what = "there is no database here";
                let evidence = format!("{shown} does not exist; --data-dir names another folder");
                return vec![Finding::warning(what, evidence).next(facts.serve.clone())];
            }
            // The log says more where the rest says that there should be one.
            Found::Missing => {
                let evidence = format!("{shown} does not exist; a start makes it");
                findings.push(Finding::note(format!("the {role} folder is not there"), evidence));
            }
            Found::Refused(why) => {
                let what = format!("whose the {role} folder is");
                let evidence =
                    format!("{shown}: {why}; run it as the user of the node, or as root");
                findings.push(Finding::unseen(what, evidence));
            }
            Found::Here { mode, owner: whose } => {
                if role == "data" {
                    owner = Some(*whose);
                }
                if mode & 0o002 != 0 {
                    let evidence = format!("{shown} has mode {mode:03o}");
                    let what = "any user may replace files of the node";
                    let next = format!("chmod o-w {}", quoted(path));
                    findings.push(Finding::warning(what, evidence).next(next));
                }
            }
        }
    }
    for file in &facts.files {
        findings.extend(exposed(file));
    }
    findings.extend(owner.and_then(|owner| strangers(&facts.files, owner)));
    if findings.is_empty() {
        let evidence = format!("{} files and folders, one owner", facts.files.len());
        findings.push(Finding::ok("folders and keys are there and closed to others", evidence));
    }
    findings
}

/// A file that others may read or use and must not.
fn exposed(file: &File) -> Option<Finding> {
    let Found::Here { mode, .. } = file.found else { return None };
    let what = match file.holds {
        Holds::Secret => "others may read a secret key; it is to be replaced, too, if they did",
        Holds::Socket => "others may open the admin socket",
        Holds::Folder(_) | Holds::State => return None,
    };
    let evidence = format!("{} has mode {mode:03o}, expected 600", file.path.display());
    let next = format!("chmod 600 {}", quoted(&file.path));
    (mode & 0o077 != 0).then(|| Finding::critical(what, evidence).next(next))
}

/// Files that belong to another user than the folder of the data: a command was run as root there, and
/// the node may not be able to open what it left.
fn strangers(files: &[File], owner: u32) -> Option<Finding> {
    let other =
        |file: &&File| matches!(file.found, Found::Here { owner: whose, .. } if whose != owner);
    let strangers: Vec<&File> = files.iter().filter(other).collect();
    let first = strangers.first()?;
    let named: Vec<String> = strangers
        .iter()
        .take(NAMED)
        .map(|file| match file.found {
            Found::Here { owner, .. } => format!("{} (user {owner})", file.path.display()),
            Found::Missing | Found::Refused(_) => file.path.display().to_string(),
        })
        .collect();
    let more = strangers.len().saturating_sub(NAMED);
    let more = if more == 0 { String::new() } else { format!(" and {more} more") };
    let evidence =
        format!("the data folder belongs to user {owner}; {}{more} not", named.join(", "));
    let what = "files belong to another user, and the node may not be able to open them";
    let next = format!("chown {owner} {}", quoted(&first.path));
    Some(Finding::warning(what, evidence).next(next))
}

#[cfg(test)]
mod tests {
    use super::super::super::finding::Severity::{Critical, Note, Ok, Warning};
    use super::super::super::finding::testing::severities;
    use super::*;

    fn case(name: &str, holds: Holds, found: Found) -> File {
        File { path: Path::new("/d").join(name), holds, found }
    }

    fn mode(mode: u32) -> Found {
        Found::Here { mode, owner: 7 }
    }

    #[test]
    fn what_others_may_do_and_whose_it_is() {
        let data = || case("", Holds::Folder("data"), mode(0o755));
        let refused = || Found::Refused("Permission denied".into());
        for (files, expected) in [
            (vec![data(), case("wal", Holds::Folder("wal"), mode(0o700))], vec![Ok]),
            (vec![case("", Holds::Folder("data"), Found::Missing)], vec![Warning]),
            (vec![data(), case("index", Holds::Folder("index"), Found::Missing)], vec![Note]),
            (vec![data(), case("node", Holds::Folder("node"), refused())], vec![Note]),
            (vec![data(), case("wal", Holds::Folder("wal"), mode(0o777))], vec![Warning]),
            (vec![data(), case("root.key", Holds::Secret, mode(0o600))], vec![Ok]),
            (vec![data(), case("root.key", Holds::Secret, mode(0o640))], vec![Critical]),
            (vec![data(), case("admin.sock", Holds::Socket, mode(0o666))], vec![Critical]),
            (vec![data(), case("database", Holds::State, mode(0o644))], vec![Ok]),
            (
                vec![data(), case("x", Holds::State, Found::Here { mode: 0o600, owner: 0 })],
                vec![Warning],
            ),
        ] {
            let facts = Facts { files, serve: "stemedb serve --data-dir /d".into() };
            assert_eq!(severities(&judge(&facts)), expected, "{:?}", facts.files);
        }
    }

    #[test]
    fn strangers_are_named_but_not_all_of_them() {
        let stranger =
            |n: u32| case(&format!("f{n}"), Holds::State, Found::Here { mode: 0o600, owner: 0 });
        let files: Vec<File> = (0..5).map(stranger).collect();
        let found = strangers(&files, 7).unwrap();
        assert!(found.evidence.contains("/d/f2 (user 0) and 2 more"), "{}", found.evidence);
        assert_eq!(found.next.as_deref(), Some("chown 7 /d/f0"));
    }
}
