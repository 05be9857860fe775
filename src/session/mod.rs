//! The one way to make a DataFusion session: our functions, our stores, a memory limit with spilling, and tables named
//! by URL.

use std::fmt::Debug;
use std::path::PathBuf;
use std::sync::{Arc, Weak};

use async_trait::async_trait;
use datafusion::arrow::datatypes::DataType;
use datafusion::catalog::{
    CatalogProvider, CatalogProviderList, MemoryCatalogProvider, MemoryCatalogProviderList, MemorySchemaProvider,
    SchemaProvider, TableProvider,
};
use datafusion::config::SqlParserOptions;
use datafusion::error::DataFusionError;
use datafusion::execution::SessionStateBuilder;
use datafusion::execution::cache::cache_manager::CacheManagerConfig;
use datafusion::execution::context::SessionState;
use datafusion::execution::disk_manager::{DiskManagerBuilder, DiskManagerMode};
use datafusion::execution::memory_pool::{FairSpillPool, TrackConsumersPool};
use datafusion::execution::object_store::ObjectStoreRegistry;
use datafusion::execution::runtime_env::RuntimeEnvBuilder;
use datafusion::logical_expr::TableType;
use datafusion::prelude::{SessionConfig, SessionContext};
use object_store::ObjectStore;
use parking_lot::RwLock;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use url::Url;

use crate::error::{Error, Result, invalid};
use crate::storage::Storage;
use crate::table::{TableFormat, open_table};

/// What a session may use of the machine. The defaults are DataFusion's: all cores, no memory limit.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct SessionOptions {
    /// What queries may hold before they spill; any amount by default.
    pub memory_limit: Option<Bytes>,
    /// Threads that run queries, and partitions of a scan; as many as cores by default.
    #[schemars(range(min = 1))]
    pub threads: Option<usize>,
    /// Where sorts and aggregations spill; the system's temporary directory by default.
    pub spill_directory: Option<PathBuf>,
    /// Rows of a batch of a query; 8192 by default.
    #[schemars(range(min = 1))]
    pub batch_size: Option<usize>,
}

/// A number of bytes, written `1024`, `"512MB"` (10⁶) or `"2GiB"` (2³⁰).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(try_from = "BytesText", into = "u64")]
pub struct Bytes(pub u64);

#[derive(Deserialize, JsonSchema)]
#[serde(untagged, expecting = "a number of bytes, such as 1024, \"512MB\" or \"2GiB\", is wanted")]
enum BytesText {
    Number(#[schemars(range(min = 1))] u64),
    Text(#[schemars(regex(pattern = r"^ *[0-9.]+ *([KkMmGgTt][Ii]?)?[Bb]? *$"))] String),
}

impl TryFrom<BytesText> for Bytes {
    type Error = Error;

    fn try_from(text: BytesText) -> Result<Self> {
        match text {
            BytesText::Number(bytes) => Ok(Self(bytes)),
            BytesText::Text(text) => text.parse(),
        }
    }
}

impl From<Bytes> for u64 {
    fn from(bytes: Bytes) -> u64 {
        bytes.0
    }
}

impl std::str::FromStr for Bytes {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self> {
        const UNITS: [(&str, u64); 10] = [
            ("kib", 1 << 10),
            ("mib", 1 << 20),
            ("gib", 1 << 30),
            ("tib", 1 << 40),
            ("kb", 1_000),
            ("mb", 1_000_000),
            ("gb", 1_000_000_000),
            ("tb", 1_000_000_000_000),
            ("b", 1),
            ("", 1),
        ];
        let lower = text.trim().to_ascii_lowercase();
        let (unit, scale) = UNITS.into_iter().find(|(unit, _)| lower.ends_with(unit)).unwrap_or(("", 1));
        let number: Option<f64> = lower[..lower.len() - unit.len()].trim().parse().ok();
        match number.map(|number| number * scale as f64) {
            Some(bytes) if (1.0..=u64::MAX as f64).contains(&bytes) => Ok(Self(bytes as u64)),
            _ => invalid!("{text:?} is not a number of bytes; write it as 512MB or 2GiB"),
        }
    }
}

/// Makes a session over `storage` with every function of [`counterweight_udfs`] registered.
///
/// A table may be named by URL or path: `SELECT … FROM 's3://bucket/path/*.parquet'`.
pub fn session(options: &SessionOptions, storage: Arc<Storage>) -> Result<SessionContext> {
    session_with(options, storage, Vec::new())
}

/// The same, with the tables of `sources` beside those that a query registers.
pub(crate) fn session_with(
    options: &SessionOptions,
    storage: Arc<Storage>,
    sources: Vec<Arc<dyn TableSource>>,
) -> Result<SessionContext> {
    let mut config = SessionConfig::new().with_information_schema(true);
    if let Some(threads) = options.threads {
        if threads == 0 {
            invalid!("threads = 0: give at least 1");
        }
        config = config.with_target_partitions(threads);
    }
    if let Some(batch_size) = options.batch_size {
        if batch_size == 0 {
            invalid!("batch_size = 0: give at least 1");
        }
        config = config.with_batch_size(batch_size);
    }

    // A job reads back what it has just written: a listing must not be remembered.
    let mut runtime = RuntimeEnvBuilder::new().with_object_store_registry(storage).with_object_list_cache_limit(0);
    if let Some(Bytes(limit)) = options.memory_limit {
        let pool = FairSpillPool::new(usize::try_from(limit).unwrap_or(usize::MAX));
        let top = std::num::NonZeroUsize::MIN.saturating_add(4);
        runtime = runtime.with_memory_pool(Arc::new(TrackConsumersPool::new(pool, top)));
    }
    if let Some(directory) = &options.spill_directory {
        let mode = DiskManagerMode::Directories(vec![directory.clone()]);
        runtime = runtime.with_disk_manager_builder(DiskManagerBuilder::default().with_mode(mode));
    }

    let state = SessionStateBuilder::new()
        .with_config(config)
        .with_runtime_env(Arc::new(runtime.build()?))
        .with_default_features()
        .build();
    let context = SessionContext::new_with_state(state);
    let names = context.state().config_options().catalog.clone();
    let catalog = context.catalog(&names.default_catalog).expect("a session has a default catalog");
    let registered = catalog.schema(&names.default_schema).expect("a catalog has a default schema");
    let schema = LazySchema { registered, sources: with_urls(sources), session: context.state_weak_ref() };
    catalog.register_schema(&names.default_schema, Arc::new(schema))?;
    counterweight_udfs::register_all(&mut *context.state_ref().write())?;
    Ok(context)
}

/// A session that has the tables of `sources` beside all that `host` has, and our functions and stores: `host` stays as it
/// is.
///
/// A bare name means a table of `sources`, else one of the host's default schema, else a URL or a path. Tables that a query
/// registers go to a schema of the session's own, `counterweight.job`. A URL for which the host has registered no store
/// is opened by `storage`.
pub(crate) fn session_beside(
    host: &SessionContext,
    storage: Arc<Storage>,
    mut sources: Vec<Arc<dyn TableSource>>,
) -> Result<SessionContext> {
    let state = host.state();
    let names = &state.config_options().catalog;
    let schema = host.catalog(&names.default_catalog).and_then(|catalog| catalog.schema(&names.default_schema));
    sources.extend(schema.map(|schema| Arc::new(HostTables(schema)) as Arc<dyn TableSource>));

    let catalog = Arc::new(MemoryCatalogProvider::new());
    let catalogs = Catalogs { host: Arc::clone(state.catalog_list()), ours: MemoryCatalogProviderList::new() };
    catalogs.register_catalog(CATALOG.to_owned(), Arc::clone(&catalog) as _);
    let runtime = RuntimeEnvBuilder::from_runtime_env(state.runtime_env());
    let runtime = runtime.with_cache_manager(CacheManagerConfig::default()).with_object_list_cache_limit(0);
    let stores = Stores { host: Arc::clone(&state.runtime_env().object_store_registry), storage };
    let runtime = runtime.with_object_store_registry(Arc::new(stores)).build()?;
    let config = state.config().clone().with_create_default_catalog_and_schema(false);
    let config = config.with_default_catalog_and_schema(CATALOG, SCHEMA).with_information_schema(true);
    let state = SessionStateBuilder::new_from_existing(state)
        .with_catalog_list(Arc::new(catalogs))
        .with_runtime_env(Arc::new(runtime))
        .with_config(config)
        .build();
    let context = SessionContext::new_with_state(state);
    let registered = Arc::new(MemorySchemaProvider::new());
    let schema = LazySchema { registered, sources: with_urls(sources), session: context.state_weak_ref() };
    catalog.register_schema(SCHEMA, Arc::new(schema))?;
    counterweight_udfs::register_all(&mut *context.state_ref().write())?;
    Ok(context)
}

/// A session over the tables, functions and stores of `state` with another configuration.
///
/// As it is, a builder would put an empty default schema in the place of the one in the catalog that both share.
pub fn reconfigured(state: SessionState, config: impl FnOnce(SessionConfig) -> SessionConfig) -> SessionContext {
    let config = config(state.config().clone().with_create_default_catalog_and_schema(false));
    SessionContext::new_with_state(SessionStateBuilder::new_from_existing(state).with_config(config).build())
}

/// A session with the functions and stores of `state`, and no table. It reads SQL as we write it, whatever dialect a host
/// has chosen.
pub fn without_tables(state: SessionState) -> SessionContext {
    let mut config = state.config().clone().with_create_default_catalog_and_schema(true);
    config.options_mut().sql_parser = SqlParserOptions::default();
    let state = SessionStateBuilder::new_from_existing(state)
        .with_catalog_list(Arc::new(MemoryCatalogProviderList::new()))
        .with_config(config)
        .build();
    SessionContext::new_with_state(state)
}

const CATALOG: &str = "counterweight";
const SCHEMA: &str = "job";

/// The catalogs of a host, and before them our own and those that a query registers.
#[derive(Debug)]
struct Catalogs {
    host: Arc<dyn CatalogProviderList>,
    ours: MemoryCatalogProviderList,
}

impl CatalogProviderList for Catalogs {
    fn register_catalog(&self, name: String, catalog: Arc<dyn CatalogProvider>) -> Option<Arc<dyn CatalogProvider>> {
        self.ours.register_catalog(name, catalog)
    }

    fn catalog_names(&self) -> Vec<String> {
        let mut names = self.ours.catalog_names();
        names.extend(self.host.catalog_names().into_iter().filter(|name| self.ours.catalog(name).is_none()));
        names
    }

    fn catalog(&self, name: &str) -> Option<Arc<dyn CatalogProvider>> {
        self.ours.catalog(name).or_else(|| self.host.catalog(name))
    }
}

/// The stores that a host has registered, and those of our storage.
#[derive(Debug)]
struct Stores {
    host: Arc<dyn ObjectStoreRegistry>,
    storage: Arc<Storage>,
}

impl ObjectStoreRegistry for Stores {
    fn register_store(&self, url: &Url, store: Arc<dyn ObjectStore>) -> Option<Arc<dyn ObjectStore>> {
        self.storage.register_store(url, store)
    }

    fn get_store(&self, url: &Url) -> Result<Arc<dyn ObjectStore>, DataFusionError> {
        self.host.get_store(url).or_else(|_| self.storage.get_store(url))
    }
}

/// The state of a session that what it holds refers to.
///
/// # Errors
/// Where the session has ended.
fn state_of(session: &Weak<RwLock<SessionState>>) -> Result<SessionState, DataFusionError> {
    let session = session.upgrade().ok_or_else(|| DataFusionError::Plan("the session has ended".into()))?;
    Ok(session.read().clone())
}

/// Where tables come from that are opened when a query first reads them.
#[async_trait]
pub(crate) trait TableSource: Debug + Send + Sync {
    /// The names of its tables, where they can be listed.
    fn names(&self) -> Vec<String>;

    /// Opens the table of that name; none where there is none.
    async fn open(&self, state: &SessionState, name: &str) -> Result<Option<Arc<dyn TableProvider>>>;
}

/// A schema of tables that queries register, and of those that its sources open, the first that has one.
#[derive(Debug)]
struct LazySchema {
    registered: Arc<dyn SchemaProvider>,
    sources: Vec<Arc<dyn TableSource>>,
    session: Weak<RwLock<SessionState>>,
}

impl LazySchema {
    fn is_listed(&self, name: &str) -> bool {
        self.sources.iter().any(|source| source.names().iter().any(|known| known == name))
    }
}

#[async_trait]
impl SchemaProvider for LazySchema {
    fn table_names(&self) -> Vec<String> {
        let mut names = self.registered.table_names();
        for name in self.sources.iter().flat_map(|source| source.names()) {
            if !names.contains(&name) {
                names.push(name);
            }
        }
        names
    }

    async fn table(&self, name: &str) -> Result<Option<Arc<dyn TableProvider>>, DataFusionError> {
        if let Some(table) = self.registered.table(name).await? {
            return Ok(Some(table));
        }
        let state = state_of(&self.session)?;
        for source in &self.sources {
            let opened = source.open(&state, name).await.map_err(|error| DataFusionError::External(Box::new(error)))?;
            if opened.is_some() {
                return Ok(opened);
            }
        }
        Ok(None)
    }

    /// To list tables opens none: some may be yet to be written.
    async fn table_type(&self, name: &str) -> Result<Option<TableType>, DataFusionError> {
        match self.registered.table_type(name).await? {
            None if self.is_listed(name) => Ok(Some(TableType::Base)),
            registered => Ok(registered),
        }
    }

    fn register_table(
        &self,
        name: String,
        table: Arc<dyn TableProvider>,
    ) -> Result<Option<Arc<dyn TableProvider>>, DataFusionError> {
        self.registered.register_table(name, table)
    }

    fn deregister_table(&self, name: &str) -> Result<Option<Arc<dyn TableProvider>>, DataFusionError> {
        self.registered.deregister_table(name)
    }

    fn table_exist(&self, name: &str) -> bool {
        self.registered.table_exist(name) || self.is_listed(name)
    }
}

/// A table for each name that is a URL or a path.
#[derive(Debug)]
struct UrlTables;

/// `sources`, and after them [`UrlTables`].
fn with_urls(mut sources: Vec<Arc<dyn TableSource>>) -> Vec<Arc<dyn TableSource>> {
    sources.push(Arc::new(UrlTables));
    sources
}

#[async_trait]
impl TableSource for UrlTables {
    fn names(&self) -> Vec<String> {
        Vec::new()
    }

    async fn open(&self, state: &SessionState, name: &str) -> Result<Option<Arc<dyn TableProvider>>> {
        // A bare word is a folder's name where there is such a folder and no table.
        match name.contains(['/', '.']) || std::path::Path::new(name).is_dir() {
            true => open_table(state, name, &TableFormat::default()).await.map(Some),
            false => Ok(None),
        }
    }
}

/// The tables of a host's default schema, which lists them itself.
#[derive(Debug)]
struct HostTables(Arc<dyn SchemaProvider>);

#[async_trait]
impl TableSource for HostTables {
    fn names(&self) -> Vec<String> {
        Vec::new()
    }

    async fn open(&self, _: &SessionState, name: &str) -> Result<Option<Arc<dyn TableProvider>>> {
        Ok(self.0.table(name).await?)
    }
}

/// Whether a column holds a vector: a representation φ in one column.
pub fn is_vector(data_type: &DataType) -> bool {
    match data_type {
        DataType::List(field) | DataType::LargeList(field) | DataType::FixedSizeList(field, _) => {
            field.data_type().is_floating()
        }
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bytes_are_read_in_both_families_of_units() {
        let cases = [("1024", 1024), ("512MB", 512_000_000), ("2GiB", 2 << 30), ("1.5 kib", 1536), ("3b", 3)];
        for (text, bytes) in cases {
            assert_eq!(text.parse::<Bytes>().unwrap(), Bytes(bytes), "{text}");
        }
        for text in ["", "GB", "-1MB", "0", "1PBX"] {
            let error = text.parse::<Bytes>().unwrap_err().to_string();
            assert!(error.contains("512MB or 2GiB"), "{error}");
        }
    }

    #[tokio::test]
    async fn options_reach_the_session() {
        let options = SessionOptions {
            memory_limit: Some(Bytes(1 << 20)),
            threads: Some(3),
            batch_size: Some(7),
            spill_directory: None,
        };
        let context = session(&options, Arc::new(Storage::new([]))).unwrap();
        let state = context.state();
        assert_eq!((state.config().target_partitions(), state.config().batch_size()), (3, 7));
        let hungry = "SELECT array_agg(a.value) FROM range(1000000) a";
        let error = context.sql(hungry).await.unwrap().collect().await.unwrap_err().to_string();
        assert!(error.contains("Resources exhausted"), "{error}");

        for (options, key) in [
            (SessionOptions { threads: Some(0), ..Default::default() }, "threads"),
            (SessionOptions { batch_size: Some(0), ..Default::default() }, "batch_size"),
        ] {
            let error = session(&options, Arc::new(Storage::new([]))).err().unwrap().to_string();
            assert_eq!(error, format!("{key} = 0: give at least 1"));
        }
    }
}
