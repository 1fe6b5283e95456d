//! The dashboards: a sane file each, panels that say what they show, queries that can have an answer.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

use anyhow::Result;
use serde_json::Value;

use super::files::{self, list, text};
use super::query::World;

/// The kinds of panel that are used; each has its own idea of options.
const PANELS: [&str; 7] =
    ["bargauge", "gauge", "heatmap", "stat", "state-timeline", "table", "timeseries"];
/// Columns of the grid.
const WIDTH: u64 = 24;

/// A query of a panel, with the variables filled in.
#[derive(Debug, Clone)]
pub(crate) struct Query {
    /// Dashboard and panel.
    pub(crate) place: String,
    pub(crate) expression: String,
}

/// Every query of every dashboard, and what is wrong with them.
pub(crate) fn look(root: &Path, world: &World) -> Result<(Vec<Query>, Vec<String>)> {
    let (mut queries, mut problems) = (Vec::new(), Vec::new());
    let (mut uids, mut titles) = (BTreeSet::new(), BTreeSet::new());
    for path in files::in_folder(&root.join(files::DASHBOARDS), "json")? {
        let dashboard = files::json(&path)?;
        let title = text(&dashboard, "/title").to_owned();
        let mut own = Vec::new();
        if !uids.insert(text(&dashboard, "/uid").to_owned()) || text(&dashboard, "/uid").is_empty()
        {
            own.push("its uid is missing, or another's".to_owned());
        }
        if title.is_empty() || !titles.insert(title.clone()) {
            own.push("its title is missing, or another's".to_owned());
        }
        if dashboard.get("schemaVersion").and_then(Value::as_u64).is_none() {
            own.push("it has no schemaVersion".to_owned());
        }
        variables(&dashboard, &mut own);
        grid(&dashboard, &mut own);
        for panel in list(&dashboard, "/panels") {
            let place = format!("{title} / {}", text(panel, "/title"));
            if text(panel, "/type") == "row" {
                continue;
            }
            let found = panel_problems(panel);
            problems.extend(found.into_iter().map(|problem| format!("{place}: {problem}")));
            for target in list(panel, "/targets") {
                let (expression, unknown) = fill_in(&dashboard, text(target, "/expr"));
                problems.extend(unknown.map(|name| format!("{place}: no variable {name}")));
                let found = world.look(&expression).problems;
                problems.extend(found.into_iter().map(|problem| format!("{place}: {problem}")));
                queries.push(Query { place: place.clone(), expression });
            }
        }
        let file = path.display();
        problems.extend(own.into_iter().map(|problem| format!("{file}: {problem}")));
    }
    problems.extend(provisioning(root)?);
    Ok((queries, problems))
}

/// Which Prometheus, and which nodes: asked for at the top of each dashboard.
fn variables(dashboard: &Value, problems: &mut Vec<String>) {
    let variables = list(dashboard, "/templating/list");
    let named = |name: &str| variables.iter().find(|one| text(one, "/name") == name);
    match named("datasource") {
        Some(one) if text(one, "/type") == "datasource" && text(one, "/query") == "prometheus" => {}
        _ => problems.push("it has no variable datasource of type prometheus".into()),
    }
    match named("instance") {
        Some(one)
            if text(one, "/type") == "query"
                && text(one, "/query/query") == "label_values(up{job=\"stemedb\"}, instance)"
                && text(one, "/datasource/uid") == "${datasource}" => {}
        _ => problems.push("it has no variable instance that lists the nodes".into()),
    }
}

/// Each panel has a place of its own in the grid.
fn grid(dashboard: &Value, problems: &mut Vec<String>) {
    let mut ids = BTreeSet::new();
    let mut taken: BTreeMap<(u64, u64), &str> = BTreeMap::new();
    for panel in list(dashboard, "/panels") {
        let title = text(panel, "/title");
        let id = panel.get("id").and_then(Value::as_u64);
        if id.is_none_or(|id| !ids.insert(id)) {
            problems.push(format!("{title}: its id is missing, or another's"));
        }
        let at = |key: &str| panel.pointer(&format!("/gridPos/{key}")).and_then(Value::as_u64);
        let (Some(x), Some(y), Some(w), Some(h)) = (at("x"), at("y"), at("w"), at("h")) else {
            problems.push(format!("{title}: it has no gridPos of x, y, w, h"));
            continue;
        };
        if w == 0 || h == 0 || h > 100 || x.saturating_add(w) > WIDTH {
            problems.push(format!("{title}: it does not fit the grid"));
            continue;
        }
        let cells = (x..x + w).flat_map(|x| (y..y.saturating_add(h)).map(move |y| (x, y)));
        let over: BTreeSet<&str> = cells.filter_map(|cell| taken.insert(cell, title)).collect();
        problems.extend(over.into_iter().map(|other| format!("{title} lies over {other}")));
    }
}

fn panel_problems(panel: &Value) -> Vec<String> {
    let mut problems = Vec::new();
    let kind = text(panel, "/type");
    if !PANELS.contains(&kind) {
        problems.push(format!("its type {kind:?} is none of {PANELS:?}"));
    }
    for (pointer, what) in [
        ("/title", "title"),
        ("/description", "description"),
        ("/fieldConfig/defaults/unit", "unit"),
    ] {
        if text(panel, pointer).is_empty() {
            problems.push(format!("it has no {what}"));
        }
    }
    let mut names = BTreeSet::new();
    let targets = list(panel, "/targets");
    if targets.is_empty() {
        problems.push("it asks nothing".into());
    }
    for one in targets.iter().chain([panel]) {
        let datasource = (text(one, "/datasource/type"), text(one, "/datasource/uid"));
        if datasource != ("prometheus", "${datasource}") {
            problems.push(format!("its datasource is {datasource:?}"));
        }
    }
    for target in targets {
        if text(target, "/refId").is_empty() || !names.insert(text(target, "/refId")) {
            problems.push("the refId of a target is missing, or another's".into());
        }
        if text(target, "/legendFormat").is_empty() {
            problems.push("a target has no legendFormat".into());
        }
    }
    problems
}

/// The query as Grafana would send it, and the variables that it has and the dashboard has not.
fn fill_in(dashboard: &Value, expression: &str) -> (String, impl Iterator<Item = String> + use<>) {
    let known = list(dashboard, "/templating/list").iter().map(|one| text(one, "/name"));
    let mut known: Vec<(&str, &str)> = known.map(|name| (name, ".+")).collect();
    known.extend([("__rate_interval", "5m"), ("__range", "1h"), ("__interval", "15s")]);
    let (mut filled, mut unknown) = (String::new(), Vec::new());
    let mut parts = expression.split('$');
    filled.push_str(parts.next().unwrap_or_default());
    for part in parts {
        let end = part.find(|c: char| !c.is_alphanumeric() && c != '_').unwrap_or(part.len());
        let (name, rest) = part.split_at(end);
        match known.iter().find(|(one, _)| *one == name) {
            Some((_, value)) => filled.push_str(value),
            // As in the replacement of label_replace.
            None if name.starts_with(|c: char| c.is_ascii_digit()) => {
                filled.push('$');
                filled.push_str(name);
            }
            None => unknown.push(format!("${name}")),
        }
        filled.push_str(rest);
    }
    (filled, unknown.into_iter())
}

/// The files by which Grafana finds dashboards and Prometheus.
fn provisioning(root: &Path) -> Result<Vec<String>> {
    let folder = root.join(files::GRAFANA).join("provisioning");
    let mut problems = Vec::new();
    let sources = files::yaml(&folder.join("datasources/stemedb.yml"))?;
    let prometheus =
        |one: &&Value| text(one, "/type") == "prometheus" && text(one, "/url").starts_with("http");
    if list(&sources, "/datasources").iter().filter(prometheus).count() != 1 {
        problems.push("the provisioned data source is not one Prometheus with an address".into());
    }
    let providers = files::yaml(&folder.join("dashboards/stemedb.yml"))?;
    let file = |one: &&Value| {
        text(one, "/type") == "file" && text(one, "/options/path").ends_with("/dashboards")
    };
    if list(&providers, "/providers").iter().filter(file).count() != 1 {
        problems.push("the provisioned dashboards are not those of one folder dashboards".into());
    }
    Ok(problems)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn panel(id: u64, title: &str, x: u64, y: u64) -> Value {
        json!({ "id": id, "title": title, "gridPos": { "x": x, "y": y, "w": 12, "h": 8 } })
    }

    fn on_grid(panels: &[Value]) -> String {
        let mut problems = Vec::new();
        grid(&json!({ "panels": panels }), &mut problems);
        problems.join("; ")
    }

    #[test]
    fn panels_have_places_and_ids_of_their_own() {
        assert_eq!(on_grid(&[panel(1, "a", 0, 0), panel(2, "b", 12, 0), panel(3, "c", 0, 8)]), "");
        assert_eq!(on_grid(&[panel(1, "a", 0, 0), panel(2, "b", 11, 7)]), "b lies over a");
        assert!(on_grid(&[panel(1, "a", 0, 0), panel(1, "b", 12, 0)]).contains("id"));
        assert!(on_grid(&[panel(1, "a", 13, 0)]).contains("does not fit"));
        assert!(on_grid(&[json!({ "id": 1 })]).contains("no gridPos"));
    }

    #[test]
    fn variables_are_filled_in() {
        let dashboard = json!({ "templating": { "list": [{ "name": "instance" }] } });
        let (filled, mut unknown) =
            fill_in(&dashboard, "rate(a{instance=~\"$instance\"}[$__rate_interval])");
        assert_eq!((filled.as_str(), unknown.next()), ("rate(a{instance=~\".+\"}[5m])", None));
        let (_, mut unknown) = fill_in(&dashboard, "a{x=\"$other\"}");
        assert_eq!(unknown.next().as_deref(), Some("$other"));
        let replaced = "label_replace(a, \"to\", \"$1\", \"x\", \"(.+)\")";
        assert_eq!(fill_in(&dashboard, replaced).0, replaced);
    }

    #[test]
    fn a_panel_says_what_it_shows() {
        let source = json!({ "type": "prometheus", "uid": "${datasource}" });
        let target =
            json!({ "refId": "A", "legendFormat": "x", "expr": "a", "datasource": source });
        let whole = json!({
            "type": "stat", "title": "t", "description": "d", "datasource": source,
            "fieldConfig": { "defaults": { "unit": "short" } }, "targets": [target]
        });
        assert_eq!(panel_problems(&whole), Vec::<String>::new());
        for pointer in [
            "/type",
            "/title",
            "/description",
            "/fieldConfig/defaults/unit",
            "/datasource/uid",
            "/targets/0/refId",
            "/targets/0/legendFormat",
            "/targets/0/datasource/uid",
        ] {
            let mut broken = whole.clone();
            *broken.pointer_mut(pointer).unwrap() = json!("");
            assert_eq!(panel_problems(&broken).len(), 1, "{pointer}");
        }
    }
}
