//! Documents: one title, links that lead somewhere, a README that begins with a command.

use super::Finding;
use super::tree::Tree;

/// Lines of the README: it is read to the end only when it is short.
const README_LINES_MAX: usize = 120;
/// The line by which the README has shown its first command.
const FIRST_COMMAND_LINE_MAX: usize = 20;
/// How a line begins that is a command to type.
const COMMANDS: &[&str] = &["$ ", "cargo ", "yard "];

/// One line of a document.
pub(crate) struct Line<'a> {
    /// Counted from 1.
    pub(crate) number: usize,
    pub(crate) text: &'a str,
    /// In a fenced code block, its fences included.
    pub(crate) in_code: bool,
}

/// The lines of a document.
pub(crate) fn lines(text: &str) -> impl Iterator<Item = Line<'_>> {
    let mut open = None;
    text.lines().enumerate().map(move |(index, text)| {
        let trimmed = text.trim_start();
        let fence = ["```", "~~~"].into_iter().find(|fence| trimmed.starts_with(fence));
        let in_code = open.is_some() || fence.is_some();
        match (open, fence) {
            (None, Some(_)) => open = fence,
            (Some(_), Some(_)) if open == fence => open = None,
            _ => {}
        }
        Line { number: index + 1, text, in_code }
    })
}

pub(crate) fn title(tree: &Tree, findings: &mut Vec<Finding>) {
    for file in tree.files.iter().filter(|file| file.is_markdown()) {
        let text = file.text.as_deref().unwrap_or_default();
        let titles = lines(text).filter(|line| !line.in_code && line.text.starts_with("# "));
        let count = titles.count();
        if count != 1 {
            let says = format!("{count} titles (`# …`): exactly one");
            findings.push(Finding::on(&file.path, says));
        }
    }
}

pub(crate) fn links(tree: &Tree, findings: &mut Vec<Finding>) {
    for file in tree.files.iter().filter(|file| file.is_markdown()) {
        let text = file.text.as_deref().unwrap_or_default();
        for line in lines(text).filter(|line| !line.in_code) {
            for link in links_of(line.text) {
                let Some(path) = resolved(&file.path, &link) else {
                    continue;
                };
                if !path.is_empty() && !tree.has(&path) {
                    let says = format!("the link `{link}` leads nowhere");
                    findings.push(Finding::at(file, line.number, says));
                }
            }
        }
    }
}

/// The targets of `[text](target)` and `[name]: target` in one line of prose.
fn links_of(line: &str) -> Vec<String> {
    let mut prose = String::new();
    for (index, part) in line.split('`').enumerate() {
        // What stands between two backticks is code; the marks keep its neighbours apart.
        prose.push_str(if index % 2 == 0 { part } else { "``" });
    }
    let mut targets = Vec::new();
    let mut rest = prose.as_str();
    while let Some((_, after)) = rest.split_once("](") {
        let (target, after) = after.split_once(')').unwrap_or((after, ""));
        targets.push(target);
        rest = after;
    }
    let definition = prose.strip_prefix('[').and_then(|rest| rest.split_once("]: "));
    targets.extend(definition.map(|(_, target)| target));
    let bare = |target: &str| target.split_whitespace().next().unwrap_or_default().to_owned();
    targets.into_iter().map(bare).collect()
}

/// The path from the root that a link in a document means, or None when it leaves the
/// repository or stays in the document.
fn resolved(document: &str, link: &str) -> Option<String> {
    let link = link.trim_matches(['<', '>']);
    let path = link.split(['#', '?']).next().unwrap_or_default();
    if path.is_empty() || link.contains("://") || link.starts_with("mailto:") {
        return None;
    }
    let folder = document.rsplit_once('/').map_or("", |(folder, _)| folder);
    let start = if path.starts_with('/') { "" } else { folder };
    let mut parts: Vec<&str> = Vec::new();
    for part in start.split('/').chain(path.split('/')) {
        match part {
            "" | "." => {}
            // Above the root there is nothing of ours: keep the dots, so that it is not found.
            ".." if parts.last().is_none_or(|last| *last == "..") => parts.push(".."),
            ".." => drop(parts.pop()),
            name => parts.push(name),
        }
    }
    Some(parts.join("/"))
}

pub(crate) fn readme(tree: &Tree, findings: &mut Vec<Finding>) {
    let path = "README.md";
    let Some(text) = tree.file(path).and_then(|file| file.text.as_deref()) else {
        findings.push(Finding::on(path, "is missing"));
        return;
    };
    let count = text.lines().count();
    if count > README_LINES_MAX {
        let says = format!("{count} lines, at most {README_LINES_MAX}: move parts into docs/");
        findings.push(Finding::on(path, says));
    }
    let is_command =
        |line: &Line<'_>| line.in_code && COMMANDS.iter().any(|it| line.text.starts_with(it));
    let first = lines(text).find(is_command).map_or(usize::MAX, |line| line.number);
    if first > FIRST_COMMAND_LINE_MAX {
        let says = format!("no command to type within the first {FIRST_COMMAND_LINE_MAX} lines");
        findings.push(Finding::on(path, says));
    }
}

#[cfg(test)]
mod tests {
    use super::super::{finds_none, finds_one};
    use super::*;

    #[test]
    fn a_document_has_one_title() {
        finds_none(title, &[("a.md", "# A\n\n## B\n```sh\n# a comment\n```\n")]);
        finds_one(title, &[("a.md", "## A\n")], "0 titles");
        finds_one(title, &[("a.md", "# A\n# B\n")], "2 titles");
    }

    #[test]
    fn links_lead_to_files_and_folders() {
        let good = "[a](b.md), [up](../README.md#top), [folder](/docs) [web](https://x.y/z)\n\
                    [here](#here) `[code](none)`\n```\n[code](none)\n```\n[c]: b.md \"title\"\n";
        finds_none(links, &[("docs/a.md", good), ("docs/b.md", ""), ("README.md", "")]);
        finds_one(links, &[("docs/a.md", "x\n[b](b.md)")], "docs/a.md:2: the link `b.md`");
        finds_one(links, &[("docs/a.md", "[b]: c/b.md")], "leads nowhere");
        finds_one(links, &[("a.md", "[b](../a.md)")], "leads nowhere");
    }

    #[test]
    fn the_readme_begins_with_a_command() {
        let good = "# Yard\n\n```sh\ncargo xtask dev\n```\n";
        finds_none(readme, &[("README.md", good)]);
        finds_one(readme, &[("README.md", "# Yard\n\ncargo is prose here\n")], "no command");
        let late = format!("{}{good}", "\n".repeat(17));
        finds_one(readme, &[("README.md", &late)], "first 20 lines");
        let long = format!("{good}{}", "\n".repeat(116));
        finds_one(readme, &[("README.md", &long)], "121 lines");
        finds_one(readme, &[], "is missing");
    }
}
