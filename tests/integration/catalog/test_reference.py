"""docs/reference/tables.md is what the catalog of a migrated database says."""

from __future__ import annotations

from reference import FOLDER, tables_page

from collector.catalog import Database


async def test_the_page_of_tables_is_the_schema(database: Database) -> None:
    async with database.session() as session:
        page = await tables_page(session.connection)
    assert (FOLDER / "tables.md").read_text() == page, "run `make reference`"


async def test_comments_and_views_are_shown(database: Database) -> None:
    async with database.session() as session:
        await session.connection.execute(
            "COMMENT ON TABLE draenei_content.wallpapers IS 'What the site lists';"
            "COMMENT ON COLUMN draenei_content.wallpapers.url IS 'The image | its address';"
            "CREATE VIEW draenei_content.shown AS SELECT 1 AS one"
        )
        page = await tables_page(session.connection)
    assert "## wallpapers\n\nWhat the site lists\n" in page
    assert "| `url` | text | yes |  | The image \\| its address |" in page
    assert "## shown\n\nA view.\n\n| column | type | required |\n|---|---|---|\n| `one` |" in page
