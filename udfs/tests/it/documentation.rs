//! The documentation from which the SQL reference is made: complete, and true.

use std::collections::HashSet;

use counterweight_udfs::{all_aggregates, all_scalars};
use datafusion::arrow::util::pretty::pretty_format_batches;
use datafusion::logical_expr::{Documentation, Signature};

use crate::sql::session;

fn functions() -> Vec<(String, Documentation, Signature)> {
    let describe = |name: &str, documentation: Option<&Documentation>, signature: &Signature| {
        let documentation = documentation.unwrap_or_else(|| panic!("{name} has no documentation"));
        (name.to_string(), documentation.clone(), signature.clone())
    };
    let aggregates = all_aggregates().into_iter().map(|f| describe(f.name(), f.documentation(), f.signature()));
    let scalars = all_scalars().into_iter().map(|f| describe(f.name(), f.documentation(), f.signature()));
    aggregates.chain(scalars).collect()
}

#[test]
fn every_function_is_described() {
    let functions = functions();
    let names: HashSet<_> = functions.iter().map(|(name, ..)| name.as_str()).collect();
    assert_eq!(names.len(), functions.len());
    for (name, documentation, signature) in &functions {
        assert!(documentation.description.len() > 40, "{name}");
        assert!(documentation.syntax_example.starts_with(&format!("{name}(")), "{name}");
        let arguments = documentation.arguments.as_ref().expect(name);
        let documented: Vec<_> = arguments.iter().map(|(name, _)| name.clone()).collect();
        assert_eq!(signature.parameter_names.as_ref(), Some(&documented), "{name}");
        for related in documentation.related_udfs.iter().flatten() {
            assert!(names.contains(related.as_str()), "{name} names {related}");
        }
    }
}

#[tokio::test]
async fn every_example_gives_the_output_it_shows() {
    let mut wrong = String::new();
    for (name, documentation, _) in functions() {
        let example = documentation.sql_example.expect(&name);
        let example = example.strip_prefix("```sql\n> ").expect(&name);
        let (query, output) = example.split_once(";\n").expect(&name);
        let output = output.strip_suffix("\n```").expect(&name);
        assert!(query.contains(&format!("{name}(")), "{name}");
        let batches = session(Default::default()).sql(query).await.unwrap();
        let table = pretty_format_batches(&batches.collect().await.unwrap()).unwrap();
        if table.to_string() != output {
            wrong += &format!("{name} gives\n{table}\n");
        }
    }
    assert!(wrong.is_empty(), "{wrong}");
}

#[test]
fn names_are_registered() {
    let ctx = session(Default::default());
    for (name, ..) in functions() {
        let state = ctx.state();
        let known = state.aggregate_functions().contains_key(&name) || state.scalar_functions().contains_key(&name);
        assert!(known, "{name}");
    }
}
