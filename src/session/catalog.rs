//! What names mean in a session: catalogs, tables that are opened when a query reads them, stores.

use std::fmt::Debug;
use std::sync::{Arc, Weak};

use async_trait::async_trait;
use datafusion::catalog::{
    CatalogProvider, CatalogProviderList, MemoryCatalogProviderList, SchemaProvider, TableProvider,
};
use datafusion::error::DataFusionError;
use datafusion::execution::context::SessionState;
use datafusion::execution::object_store::ObjectStoreRegistry;
use datafusion::logical_expr::TableType;
use object_store::ObjectStore;
use parking_lot::RwLock;
use url::Url;

use crate::error::Result;
use crate::storage::Storage;
use crate::table::{TableFormat, open_table};

pub(super) const CATALOG: &str = "counterweight";
pub(super) const SCHEMA: &str = "job";

/// The catalogs of a host, and before them our own and those that a query registers.
#[derive(Debug)]
pub(super) struct Catalogs {
    pub(super) host: Arc<dyn CatalogProviderList>,
    pub(super) ours: MemoryCatalogProviderList,
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
pub(super) struct Stores {
    pub(super) host: Arc<dyn ObjectStoreRegistry>,
    pub(super) storage: Arc<Storage>,
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
pub(super) struct LazySchema {
    pub(super) registered: Arc<dyn SchemaProvider>,
    pub(super) sources: Vec<Arc<dyn TableSource>>,
    pub(super) session: Weak<RwLock<SessionState>>,
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
pub(super) fn with_urls(mut sources: Vec<Arc<dyn TableSource>>) -> Vec<Arc<dyn TableSource>> {
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
pub(super) struct HostTables(pub(super) Arc<dyn SchemaProvider>);

#[async_trait]
impl TableSource for HostTables {
    fn names(&self) -> Vec<String> {
        Vec::new()
    }

    async fn open(&self, _: &SessionState, name: &str) -> Result<Option<Arc<dyn TableProvider>>> {
        Ok(self.0.table(name).await?)
    }
}
