//! The blocks of the author's guide are the files that they name, which are built and tested as
//! what they are. `UPDATE_EXPECT=1` writes the blocks anew.

use std::fs;
use std::path::Path;

const ROOT: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/..");
const GUIDE: &str = "docs/plugins.md";

#[test]
fn the_blocks_of_the_guide_are_the_files_that_they_name() {
    let root = Path::new(ROOT);
    let guide = fs::read_to_string(root.join(GUIDE)).expect("the guide is there");
    let (mut expected, mut files) = (String::new(), 0);
    let mut lines = guide.lines();
    while let Some(line) = lines.next() {
        expected.push_str(line);
        expected.push('\n');
        let named = line.strip_prefix("```").and_then(|fence| fence.split_once(" file="));
        let Some((_, file)) = named else { continue };
        expected.push_str(&fs::read_to_string(root.join(file)).expect(file));
        expected.push_str("```\n");
        lines.by_ref().find(|line| *line == "```").expect("each block ends");
        files += 1;
    }
    assert!(files >= 4, "the guide names files: {files}");
    if std::env::var_os("UPDATE_EXPECT").is_some() {
        fs::write(root.join(GUIDE), &expected).expect("the guide is written");
        return;
    }
    assert!(guide == expected, "{GUIDE} is behind, UPDATE_EXPECT=1 updates it");
}
