//! The help of every command, as a page that a change of the command line changes.
//! `UPDATE=1 cargo test -p stemedb-cli --test help` writes it anew.

use std::fmt::Write;

use clap::{Command, CommandFactory};
use stemedb_cli::args::Cli;

const PAGE: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/help.txt");

fn pages(command: &mut Command, path: &str, text: &mut String) {
    let path = format!("{path} {}", command.get_name()).trim().to_owned();
    let _ = writeln!(text, "$ {path} --help\n{}", command.render_long_help());
    for sub in command.get_subcommands_mut().filter(|sub| sub.get_name() != "help") {
        pages(sub, &path, text);
    }
}

fn leaves<'a>(command: &'a Command, path: &str, found: &mut Vec<(String, &'a Command)>) {
    let path = format!("{path} {}", command.get_name()).trim().to_owned();
    let mut subs = command.get_subcommands().filter(|sub| sub.get_name() != "help").peekable();
    if subs.peek().is_none() {
        found.push((path, command));
        return;
    }
    subs.for_each(|sub| leaves(sub, &path, found));
}

#[test]
fn the_help_of_every_command_is_as_the_page_says() {
    let mut command = Cli::command().term_width(100);
    command.build();
    let mut text = String::new();
    pages(&mut command, "", &mut text);
    // Set in the environment of whoever runs the test, it would show.
    let text: String = text.lines().map(|line| format!("{}\n", line.trim_end())).collect();
    if std::env::var_os("UPDATE").is_some() {
        stemedb_cli::files::replace(PAGE.as_ref(), &text).unwrap();
    }
    let page = stemedb_cli::files::read_text(PAGE.as_ref()).unwrap();
    if let Some((n, (found, expected))) =
        text.lines().zip(page.lines()).enumerate().find(|(_, (found, expected))| found != expected)
    {
        panic!("help.txt, line {}:\n  is      {found}\n  expected {expected}", n + 1);
    }
    assert_eq!(text.lines().count(), page.lines().count(), "help.txt has another length");
}

#[test]
fn every_command_says_what_it_does_and_shows_an_example() {
    let command = Cli::command();
    let mut found = Vec::new();
    leaves(&command, "", &mut found);
    assert!(found.len() > 40, "{}", found.len());
    for (path, leaf) in found {
        assert!(leaf.get_about().is_some(), "{path} does not say what it does");
        // A family of small commands shows its examples at its head.
        let own = leaf.get_after_help().is_some();
        let family = path.split(' ').nth(1).and_then(|name| command.find_subcommand(name));
        let shown = own || family.is_some_and(|family| family.get_after_help().is_some());
        assert!(shown, "{path} shows no example");
    }
}

#[test]
fn the_tree_is_sound() {
    Cli::command().debug_assert();
}
