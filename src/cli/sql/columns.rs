//! `SHOW COLUMNS` of a table that is named by its path or URL, which no catalog lists.

use std::sync::Arc;

use counterweight::error::Result;
use datafusion::arrow::array::{ArrayRef, RecordBatch, StringArray};
use datafusion::common::TableReference;
use datafusion::dataframe::DataFrame;
use datafusion::prelude::SessionContext;
use datafusion::sql::parser::Statement;
use datafusion::sql::sqlparser::ast::Statement as SqlStatement;

/// The columns that `statement` asks for, as the catalogs tell those of other tables; none where they do, or where it is
/// another statement.
pub(super) async fn shown(session: &SessionContext, statement: &Statement) -> Result<Option<DataFrame>> {
    let Statement::Statement(statement) = statement else { return Ok(None) };
    let SqlStatement::ShowColumns { extended: false, full: false, show_options } = statement.as_ref() else {
        return Ok(None);
    };
    let Some(table) = show_options.show_in.as_ref().and_then(|shown| shown.parent_name.as_ref()) else {
        return Ok(None);
    };
    let [name] = table.0.as_slice() else { return Ok(None) };
    let Some(name) = name.as_ident().map(|name| name.value.clone()) else { return Ok(None) };
    let names = session.state().config_options().catalog.clone();
    let schema = session.catalog(&names.default_catalog).and_then(|catalog| catalog.schema(&names.default_schema));
    if schema.is_none_or(|schema| schema.table_names().contains(&name)) || show_options.filter_position.is_some() {
        return Ok(None);
    }
    let fields = session.table_provider(TableReference::bare(name.as_str())).await?.schema();
    let each = |text: &dyn Fn(usize) -> String| -> ArrayRef {
        Arc::new((0..fields.fields().len()).map(|column| Some(text(column))).collect::<StringArray>())
    };
    let columns = RecordBatch::try_from_iter([
        ("table_catalog", each(&|_| names.default_catalog.clone())),
        ("table_schema", each(&|_| names.default_schema.clone())),
        ("table_name", each(&|_| name.clone())),
        ("column_name", each(&|column| fields.field(column).name().clone())),
        ("data_type", each(&|column| fields.field(column).data_type().to_string())),
        ("is_nullable", each(&|column| if fields.field(column).is_nullable() { "YES" } else { "NO" }.to_owned())),
    ])?;
    Ok(Some(session.read_batch(columns)?))
}
