//! From the files at a location to a table.

use std::collections::BTreeSet;
use std::sync::Arc;

use datafusion::arrow::datatypes::{DataType, Field, FieldRef, Schema, SchemaRef};
use datafusion::catalog::TableProvider;
use datafusion::common::Column;
use datafusion::datasource::file_format::FileFormat;
use datafusion::datasource::file_format::arrow::ArrowFormat;
use datafusion::datasource::file_format::file_compression_type::FileCompressionType;
use datafusion::datasource::file_format::json::JsonFormat;
use datafusion::datasource::listing::PartitionedFile;
use datafusion::datasource::physical_plan::wrap_partition_value_in_dict;
use datafusion::datasource::{ViewTable, provider_as_source};
use datafusion::execution::context::SessionState;
use datafusion::logical_expr::{DdlStatement, Expr, LogicalPlan, LogicalPlanBuilder, cast, lit};
use datafusion::prelude::SessionContext;
use datafusion::scalar::ScalarValue;
use futures::{StreamExt, TryStreamExt, stream};
use object_store::ObjectStore;

use super::csv::{self, Dialect};
use super::fault::fault;
use super::format::{Kind, TableFormat, kind_of};
use super::listing::{Found, TableFile, find, store_of};
use super::location::Location;
use super::partition::{Partitions, agrees};
use super::scan::Scan;
use super::widen::merge;
use super::{json, parquet};
use crate::error::{Context, Result, invalid, suggestion};

/// The column by which the values of a text file know their file.
const FILE: &str = "file of the value";

/// A table as it was when it was opened: the files that it has, and the columns that all of them give.
#[derive(Debug)]
pub struct Table {
    location: Location,
    files: Vec<TableFile>,
    partitions: Partitions,
    /// The columns of the files, in the order of the table.
    columns: SchemaRef,
    groups: Vec<Group>,
}

/// Files that are read alike.
#[derive(Debug)]
struct Group {
    format: Arc<dyn FileFormat>,
    /// What the format reads.
    schema: SchemaRef,
    /// The table's columns, computed from those read; none where they are the same.
    values: Option<Vec<Expr>>,
    /// By their places in the table.
    files: Vec<usize>,
}

impl Table {
    /// Opens the table whose files lie at `location`: a file, a folder (partitioned `key=value/` or not) or a pattern.
    ///
    /// # Errors
    /// Where there is no file, the format cannot be told, the files do not make one table, or the schema does not parse:
    /// the message names the location.
    pub async fn open(state: &SessionState, location: &str, format: &TableFormat) -> Result<Self> {
        let opened = Self::open_at(state, location, format).await;
        opened.context(|| format!("cannot open the table at {location}"))
    }

    async fn open_at(state: &SessionState, location: &str, format: &TableFormat) -> Result<Self> {
        let location = Location::parse(location)?;
        let found = find(state, &location, format.recursive.unwrap_or(true)).await?;
        let (kind, compressions) = kind_of(&location, &found.files, format)?;
        let declared = match &format.schema {
            Some(columns) => Some(declared_schema(state, columns).await?),
            None => None,
        };
        let partitions = Partitions::of(&location, &found, declared.as_ref())?;
        let files = found.files.iter().map(|file| found.table_file(&location, file)).collect();
        let reading = Reading { state, store: store_of(state, &location.store)?, location: &location, found: &found };
        // A partition is a column of its own where it is declared with the others.
        let of_files = declared.map(|declared| without(&declared, &partitions));
        let (columns, groups) = match kind {
            Kind::Parquet => reading.parquet(format, of_files).await?,
            Kind::Csv | Kind::Tsv | Kind::Text => {
                reading.separated(Dialect::new(kind, format)?, compressions, of_files).await?
            }
            Kind::Json => reading.json(compressions, of_files).await?,
            Kind::Arrow => reading.arrow(of_files).await?,
        };
        let table = Self { location, files, partitions, columns, groups };
        table.settle_partitions(state).await
    }

    /// The files, in the order of their paths.
    pub fn files(&self) -> &[TableFile] {
        &self.files
    }

    /// The table of all files.
    pub fn provider(&self) -> Result<Arc<dyn TableProvider>> {
        self.of_files(&|_| true, &self.partitions.fields)
    }

    /// The table of one of the files, in whose rows all columns are as in the whole table, partitions included.
    pub fn file(&self, file: &TableFile) -> Result<Arc<dyn TableProvider>> {
        self.of_files(&|index| self.files[index] == *file, &self.partitions.fields)
    }

    /// Whether a column comes of the folders that files lie in, and not from the files.
    pub fn is_partition(&self, column: &str) -> bool {
        self.partitions.has(column)
    }

    /// The table of chosen files, with or without the partitions.
    fn of_files(&self, chosen: &dyn Fn(usize) -> bool, partitions: &[FieldRef]) -> Result<Arc<dyn TableProvider>> {
        let mut parts = Vec::new();
        for group in &self.groups {
            let files: Vec<usize> = group.files.iter().copied().filter(|file| chosen(*file)).collect();
            if !files.is_empty() {
                parts.push((group, self.scan(group, &files, partitions)));
            }
        }
        if let [(Group { values: None, .. }, scan)] = parts.as_slice() {
            return Ok(Arc::clone(scan) as _);
        }
        let mut plan: Option<LogicalPlan> = None;
        for (group, scan) in parts {
            let part = LogicalPlanBuilder::scan("files", provider_as_source(scan), None)?;
            let columns = self.columns.fields().iter().map(|field| column(field.name()));
            let values: Vec<Expr> = group.values.clone().unwrap_or_else(|| columns.collect());
            let named = values.into_iter().zip(self.columns.fields()).map(|(value, field)| value.alias(field.name()));
            let partitions = partitions.iter().map(|field| column(field.name()).alias(field.name()));
            let part = part.project(named.chain(partitions))?.build()?;
            plan = Some(match plan {
                Some(before) => LogicalPlanBuilder::from(before).union(part)?.build()?,
                None => part,
            });
        }
        match plan {
            Some(plan) => Ok(Arc::new(ViewTable::new(plan, None))),
            None => invalid!("the table has no such file"),
        }
    }

    fn scan(&self, group: &Group, files: &[usize], partitions: &[FieldRef]) -> Arc<Scan> {
        let names_files = group.values.is_some();
        let mut fields = partitions.to_vec();
        if names_files {
            fields.push(Arc::new(Field::new(FILE, file_type(), false)));
        }
        let with_values = |index: &usize| {
            let file = &self.files[*index];
            let mut part = PartitionedFile::from(file.meta.clone());
            if !partitions.is_empty() {
                part.partition_values.clone_from(&self.partitions.values[*index]);
            }
            if names_files {
                let name = ScalarValue::Utf8(Some(file.to_string()));
                part.partition_values.push(wrap_partition_value_in_dict(name));
            }
            part
        };
        let files = files.iter().map(with_values).collect();
        let (format, schema) = (Arc::clone(&group.format), Arc::clone(&group.schema));
        Arc::new(Scan::new(self.location.store.clone(), format, files, schema, fields))
    }

    /// Takes a column that is a partition and in the files, too, from the folders.
    ///
    /// # Errors
    /// Where a file holds another value than its folder says.
    async fn settle_partitions(mut self, state: &SessionState) -> Result<Self> {
        let both: Vec<usize> = (0..self.partitions.fields.len())
            .filter(|index| self.columns.field_with_name(self.partitions.fields[*index].name()).is_ok())
            .collect();
        if both.is_empty() {
            return Ok(self);
        }
        let session = crate::session::without_tables(state.clone());
        for key in both {
            let name = self.partitions.fields[key].name();
            for (index, file) in self.files.iter().enumerate() {
                self.require_agreement(&session, index, key).await.context(|| format!("column {name:?} of {file}"))?;
            }
        }
        let is_kept = |field: &FieldRef| !self.partitions.has(field.name());
        let kept: Vec<bool> = self.columns.fields().iter().map(is_kept).collect();
        for group in &mut self.groups {
            match &mut group.values {
                Some(values) => {
                    let mut kept = kept.iter();
                    values.retain(|_| *kept.next().unwrap_or(&true));
                    // The partition has the name for itself.
                    let renamed = group.schema.fields().iter().map(|field| match self.partitions.has(field.name()) {
                        true => field.as_ref().clone().with_name(format!("{} of the file", field.name())),
                        false => field.as_ref().clone(),
                    });
                    group.schema = Arc::new(Schema::new(renamed.collect::<Vec<_>>()));
                }
                None => group.schema = without(&group.schema, &self.partitions),
            }
        }
        self.columns = without(&self.columns, &self.partitions);
        Ok(self)
    }

    async fn require_agreement(&self, session: &SessionContext, file: usize, key: usize) -> Result<()> {
        let name = self.partitions.fields[key].name();
        let rows = session.read_table(self.of_files(&|index| index == file, &[])?)?;
        let rows = rows.select(vec![column(name).alias("held")])?.distinct()?.limit(0, Some(2))?.collect().await?;
        let partition = &self.partitions.values[file][key];
        for batch in rows {
            for row in 0..batch.num_rows() {
                let held = ScalarValue::try_from_array(batch.column(0), row)?;
                if !agrees(&held, partition)? {
                    invalid!(
                        "the file holds {held} and lies in the partition {name}={partition}; move it, or leave the \
                         column out of the file"
                    );
                }
            }
        }
        Ok(())
    }
}

/// A column by its name, whatever the name looks like.
fn column(name: &str) -> Expr {
    Expr::Column(Column::new_unqualified(name))
}

fn file_type() -> DataType {
    datafusion::datasource::physical_plan::wrap_partition_type_in_dict(DataType::Utf8)
}

fn without(schema: &SchemaRef, partitions: &Partitions) -> SchemaRef {
    let fields = schema.fields().iter().filter(|field| !partitions.has(field.name()));
    Arc::new(Schema::new(fields.cloned().collect::<Vec<_>>()))
}

/// What the files of a table are read by while it is opened.
struct Reading<'a> {
    state: &'a SessionState,
    store: Arc<dyn ObjectStore>,
    location: &'a Location,
    found: &'a Found,
}

type Columns = (SchemaRef, Vec<Group>);

impl Reading<'_> {
    /// The files with their names.
    fn named(&self) -> Vec<(String, object_store::ObjectMeta)> {
        self.found.files.iter().map(|file| (self.location.show(file), file.clone())).collect()
    }

    /// The schema of each file, as it says itself.
    async fn schemas(&self, format: &Arc<dyn FileFormat>) -> Result<Vec<(String, SchemaRef)>> {
        let side_by_side = self.state.config_options().execution.meta_fetch_concurrency.get();
        let schemas = stream::iter(self.named()).map(|(name, file)| async move {
            let schema = format.infer_schema(self.state, &self.store, std::slice::from_ref(&file)).await;
            match schema {
                Ok(schema) => Ok((name, schema)),
                Err(error) => Err(fault(&name, error)),
            }
        });
        schemas.boxed().buffered(side_by_side).try_collect().await
    }

    async fn parquet(&self, format: &TableFormat, declared: Option<SchemaRef>) -> Result<Columns> {
        let format = parquet::format(self.state, format)?;
        let schemas = self.schemas(&format).await?;
        let columns = match declared {
            Some(declared) => {
                require_columns(&declared, &schemas)?;
                declared
            }
            None => merge(&parquet::narrowed(self.state, &self.store, &format, &self.named(), schemas).await?)?,
        };
        let files = (0..self.found.files.len()).collect();
        Ok((Arc::clone(&columns), vec![Group { format, schema: columns, values: None, files }]))
    }

    async fn arrow(&self, declared: Option<SchemaRef>) -> Result<Columns> {
        let format: Arc<dyn FileFormat> = Arc::new(ArrowFormat);
        let schemas = self.schemas(&format).await?;
        let columns = match declared {
            Some(declared) => {
                require_columns(&declared, &schemas)?;
                declared
            }
            None => merge(&schemas)?,
        };
        // The reader of Arrow files takes columns by position: https://github.com/apache/arrow-rs/pull/3966
        let schemas = schemas.into_iter().map(|(_, schema)| schema).enumerate();
        let group = |(schema, files): (SchemaRef, Vec<usize>)| {
            let value = |field: &FieldRef| match schema.field_with_name(field.name()) {
                Ok(held) if held.data_type() == field.data_type() => column(field.name()),
                Ok(_) => cast(column(field.name()), field.data_type().clone()),
                Err(_) => null(field),
            };
            let values = columns.fields().iter().map(value).collect();
            let same = schema.fields() == columns.fields();
            let values = Some(values).filter(|_| !same);
            Group { format: Arc::clone(&format), schema, values, files }
        };
        let groups = alike(schemas).into_iter().map(group).collect();
        Ok((columns, groups))
    }

    async fn json(&self, compressions: Vec<FileCompressionType>, declared: Option<SchemaRef>) -> Result<Columns> {
        let files: Vec<_> = self.named().into_iter().zip(&compressions).map(|((n, f), c)| (n, f, *c)).collect();
        let held = json::schema(self.store.as_ref(), &files).await;
        let columns = match (declared, held) {
            // Lines that have no type in common may still be read as the declared one.
            (Some(declared), Err(_)) => declared,
            (Some(declared), Ok(held)) => {
                json::require_fit(&declared, &held)?;
                require_columns(&declared, &[("the files".to_owned(), held)])?;
                declared
            }
            (None, held) => held?,
        };
        let group = |(compression, files)| Group {
            format: Arc::new(JsonFormat::default().with_file_compression_type(compression)),
            schema: Arc::clone(&columns),
            values: None,
            files,
        };
        let groups = alike(compressions.into_iter().enumerate()).into_iter().map(group).collect();
        Ok((columns, groups))
    }

    async fn separated(
        &self,
        dialect: Dialect,
        compressions: Vec<FileCompressionType>,
        declared: Option<SchemaRef>,
    ) -> Result<Columns> {
        let count = self.found.files.len();
        let side_by_side = self.state.config_options().execution.meta_fetch_concurrency.get();
        let heads = stream::iter(self.named().into_iter().zip(&compressions)).map(|((name, file), compression)| {
            let dialect = &dialect;
            async move {
                let head = csv::head(self.store.as_ref(), &file, &name, *compression, dialect, count).await?;
                Ok::<_, crate::error::Error>((name, head))
            }
        });
        let heads: Vec<_> = heads.boxed().buffered(side_by_side).try_collect().await?;
        // A file without a line has no column and no row.
        let known: Vec<_> =
            heads.iter().filter_map(|(name, head)| head.clone().map(|head| (name.clone(), head))).collect();
        if known.is_empty() {
            invalid!("no file there has a line");
        }
        let columns = csv::schema(&known, declared.as_ref(), &dialect)?;
        let mut keys = Vec::with_capacity(heads.len());
        for (file, (name, head)) in heads.iter().enumerate() {
            let Some(head) = head else { continue };
            keys.push((file, (csv::names(name, head, declared.as_ref(), &dialect)?, compressions[file])));
        }
        let is_guessed = declared.is_none();
        let group = |((names, compression), files): ((Vec<String>, FileCompressionType), Vec<usize>)| {
            let value = |field: &FieldRef| match names.contains(field.name()) {
                true => csv::value(column(field.name()), field, is_guessed, &dialect, column(FILE)),
                false => null(field),
            };
            let values = columns.fields().iter().map(value).collect();
            let text = names.iter().map(|name| Field::new(name, DataType::Utf8, true));
            let schema = Arc::new(Schema::new(text.collect::<Vec<_>>()));
            Group { format: dialect.format(compression), schema, values: Some(values), files }
        };
        let groups = alike(keys).into_iter().map(group).collect();
        Ok((columns, groups))
    }
}

fn null(field: &Field) -> Expr {
    cast(lit(ScalarValue::Null), field.data_type().clone())
}

/// Refuses a declared column that no file has.
fn require_columns(declared: &SchemaRef, files: &[(String, SchemaRef)]) -> Result<()> {
    let known = files.iter().flat_map(|(_, schema)| schema.fields()).map(|field| field.name().as_str());
    match undeclared(declared, known) {
        Some((column, suggestion)) => invalid!("schema declares column {column:?}, and no file has it{suggestion}"),
        None => Ok(()),
    }
}

/// The first declared column that is none of those `known`, with what may have been meant.
pub(super) fn undeclared<'a>(declared: &'a Schema, known: impl Iterator<Item = &'a str>) -> Option<(&'a str, String)> {
    let known: BTreeSet<&str> = known.collect();
    let name = declared.fields().iter().map(|field| field.name().as_str()).find(|name| !known.contains(name))?;
    Some((name, suggestion(name, known)))
}

/// The indices of `keys` that are alike, under each key in the order in which it first comes.
fn alike<K: PartialEq>(keys: impl IntoIterator<Item = (usize, K)>) -> Vec<(K, Vec<usize>)> {
    let mut groups: Vec<(K, Vec<usize>)> = Vec::new();
    for (index, key) in keys {
        match groups.iter_mut().find(|(known, _)| *known == key) {
            Some((_, indices)) => indices.push(index),
            None => groups.push((key, vec![index])),
        }
    }
    groups
}

/// The schema that `CREATE TABLE t (columns)` would have.
async fn declared_schema(state: &SessionState, columns: &str) -> Result<SchemaRef> {
    let sql = format!("CREATE EXTERNAL TABLE declared ({columns}) STORED AS CSV LOCATION '/'");
    let plan = state.create_logical_plan(&sql).await;
    match plan.context(|| format!("schema = {columns:?} is not a list of SQL columns"))? {
        LogicalPlan::Ddl(DdlStatement::CreateExternalTable(table)) => Ok(Arc::clone(table.schema.inner())),
        _ => invalid!("schema = {columns:?} is not a list of SQL columns such as \"user_id BIGINT, rating DOUBLE\""),
    }
}
