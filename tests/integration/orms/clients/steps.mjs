// Runs the operations of one client, each from the same two rows on, and prints what each of them gave.

export const ROWS = [
  { login: "ada", email: "ada@example.org", born: "1815-12-10" },
  { login: "alan", email: "alan@example.org", born: null },
];
export const place = {
  host: process.env.PGHOST, port: Number(process.env.PGPORT), user: process.env.PGUSER, database: process.env.PGDATABASE,
};
// With the changes that docs/orms.md asks for.
export const changed = Boolean(process.env.CHANGED);
export const TRUNCATE = changed ? "CALL envelope.truncate('customer', \"cascade\" => true)" : "TRUNCATE customer CASCADE";
export const INTO = changed ? "customer_upsert" : "customer";

export async function run(operations, clean, close) {
  const seen = {};
  for (const [name, operation] of Object.entries(operations)) {
    await clean();
    try {
      seen[name] = { gave: JSON.parse(JSON.stringify((await operation()) ?? null)) };
    } catch (error) {
      seen[name] = { error: error.code ?? error.original?.code ?? error.parent?.code ?? String(error) };
    }
  }
  await close();
  console.log(JSON.stringify(seen));
}
