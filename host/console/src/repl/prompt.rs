//! The prompt: where the console is, and whether it would do anything.
use std::borrow::Cow;

use reedline::{Color, PromptEditMode, PromptHistorySearch};

use crate::session::Place;
use crate::show::text::visible;

/// `context/tenant dry> `.
pub(super) struct Prompt {
    left: String,
    is_production: bool,
}

impl Prompt {
    pub(super) fn new(Place { context, tenant }: &Place, dry: bool) -> Self {
        let place = match (context.is_empty(), tenant.is_empty()) {
            (true, _) => "yard".to_owned(),
            (false, true) => visible(context).into_owned(),
            (false, false) => visible(&format!("{context}/{tenant}")).into_owned(),
        };
        let is_production = is_production(context);
        let sign = if is_production { " ⚠" } else { "" };
        let dry = if dry { " dry" } else { "" };
        Self { left: format!("{place}{sign}{dry}"), is_production }
    }
}

/// Whether a context is one where people depend on what is there: by its name.
pub(crate) fn is_production(context: &str) -> bool {
    context.to_ascii_lowercase().contains("prod")
}

impl reedline::Prompt for Prompt {
    fn render_prompt_left(&self) -> Cow<'_, str> {
        Cow::Borrowed(&self.left)
    }

    fn render_prompt_right(&self) -> Cow<'_, str> {
        Cow::Borrowed("")
    }

    fn render_prompt_indicator(&self, _: PromptEditMode) -> Cow<'_, str> {
        Cow::Borrowed("> ")
    }

    fn render_prompt_multiline_indicator(&self) -> Cow<'_, str> {
        Cow::Borrowed("… ")
    }

    fn render_prompt_history_search_indicator(&self, search: PromptHistorySearch) -> Cow<'_, str> {
        Cow::Owned(format!("search {}: ", search.term))
    }

    fn get_prompt_color(&self) -> Color {
        if self.is_production { Color::Red } else { Color::Green }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_prompt_says_where_and_how() {
        let check = |context: &str, tenant: &str, dry: bool, expected: &str| {
            let place = Place { context: context.into(), tenant: tenant.into() };
            assert_eq!(Prompt::new(&place, dry).left, expected);
        };
        check("", "", false, "yard");
        check("dev", "default", false, "dev/default");
        check("Prod-eu", "acme", true, "Prod-eu/acme ⚠ dry");
        check("dev\u{1b}", "", false, "dev\\u{1b}");
    }
}
