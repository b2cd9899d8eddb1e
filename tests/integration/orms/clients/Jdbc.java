import java.sql.Connection;
import java.sql.Date;
import java.sql.DriverManager;
import java.sql.PreparedStatement;
import java.sql.ResultSet;
import java.sql.ResultSetMetaData;
import java.sql.SQLException;
import java.util.ArrayList;
import java.util.LinkedHashMap;
import java.util.List;
import java.util.Map;

/** Runs the operations of PostgreSQL's JDBC driver, each from the same two rows on, and prints what each of them gave. */
public class Jdbc {
    interface Operation {
        Object run() throws SQLException;
    }

    // With the changes that docs/orms.md asks for.
    static final boolean CHANGED = System.getenv("CHANGED") != null;
    static final String INSERT = "INSERT INTO customer (login, email, born) VALUES (?, ?, ?::date)";
    static final String ALL = "SELECT login, email, born, visits FROM customer ORDER BY login";
    static final String BY_ID = "SELECT c.login, c.email, count(p.id) FROM customer c"
        + " LEFT JOIN purchase p ON p.customer_id = c.id GROUP BY c.id" + (CHANGED ? ", c.login, c.email" : "") + " ORDER BY 1";
    static final String UPSERT = (CHANGED ? INSERT.replace("customer", "customer_upsert AS customer") : INSERT)
        + " ON CONFLICT (login) DO UPDATE SET email = excluded.email";
    static Connection db;

    public static void main(String[] arguments) throws SQLException {
        String place = "127.0.0.1:" + System.getenv("PGPORT") + "/" + System.getenv("PGDATABASE");
        db = DriverManager.getConnection("jdbc:postgresql://" + place, System.getenv("PGUSER"), System.getenv("PGPASSWORD"));
        List<String> seen = new ArrayList<>();
        for (Map.Entry<String, Operation> one : operations().entrySet()) {
            seen.add(text(one.getKey()) + ": " + outcome(one.getValue()));
        }
        db.close();
        System.out.println("{" + String.join(", ", seen) + "}");
    }

    static Map<String, Operation> operations() {
        Map<String, Operation> all = new LinkedHashMap<>();
        all.put("insert", Jdbc::generated);
        all.put("insert_many", Jdbc::batch);
        all.put("select", () -> rows(ALL));
        all.put("star", () -> names(CHANGED ? "SELECT id, login, email, born, visits FROM customer" : "SELECT * FROM customer"));
        all.put("by_value", () -> rows("SELECT login FROM customer WHERE email = ?", "ada@example.org"));
        all.put("by_part", () -> rows("SELECT login FROM customer WHERE email ILIKE ?", "ADA%"));
        all.put("order", () -> rows("SELECT email FROM customer ORDER BY email DESC"));
        all.put("types", Jdbc::types);
        all.put("update", () -> List.of(done("UPDATE customer SET email = ? WHERE login = ?", "x@example.org", "ada"), rows(ALL)));
        all.put("delete", () -> done("DELETE FROM customer WHERE email = ?", "ada@example.org"));
        all.put("server_prepared", Jdbc::repeated);
        all.put("lock", () -> rows("SELECT email FROM customer WHERE login = ? FOR UPDATE", "ada"));
        all.put("fetch_size", Jdbc::cursor);
        all.put("updatable", Jdbc::updatable);
        all.put("roll_back", Jdbc::rolledBack);
        all.put("savepoint", Jdbc::savepoint);
        all.put("duplicate", () -> done(INSERT, "ada", null, null));
        all.put("ignore", () -> List.of(done(INSERT + " ON CONFLICT DO NOTHING", "ada", "new", null), rows(ALL)));
        all.put("upsert", () -> List.of(done(UPSERT, "ada", "new", null), rows(ALL)));
        all.put("group", () -> rows(BY_ID));
        all.put("truncate", () -> List.of(done(CHANGED ? "CALL envelope.truncate('customer', \"cascade\" => true)" : "TRUNCATE customer CASCADE") <= 0, rows(ALL)));
        return all;
    }

    static String outcome(Operation operation) throws SQLException {
        db.setAutoCommit(true);
        done("DELETE FROM purchase");
        done("DELETE FROM customer");
        done(INSERT, "ada", "ada@example.org", "1815-12-10");
        done(INSERT, "alan", "alan@example.org", null);
        try {
            return "{\"gave\": " + text(String.valueOf(operation.run())) + "}";
        } catch (SQLException error) {
            return "{\"error\": " + text(String.valueOf(error.getSQLState())) + "}";
        }
    }

    static Object generated() throws SQLException {
        try (PreparedStatement made = db.prepareStatement(INSERT, new String[] {"id", "email"})) {
            fill(made, "grace", "grace@example.org", "1906-12-09");
            made.executeUpdate();
            ResultSet keys = made.getGeneratedKeys();
            keys.next();
            return List.of(keys.getInt(1) > 0, keys.getString(2));
        }
    }

    static Object batch() throws SQLException {
        try (PreparedStatement made = db.prepareStatement(INSERT)) {
            for (String login : List.of("b", "c", "d")) {
                fill(made, login, login + "@example.org", "2000-02-29");
                made.addBatch();
            }
            made.executeBatch();
        }
        return rows(ALL);
    }

    static Object types() throws SQLException {
        try (PreparedStatement made = db.prepareStatement("UPDATE customer SET born = ? WHERE login = 'ada'")) {
            made.setDate(1, Date.valueOf("1999-12-31"));
            made.executeUpdate();
        }
        try (ResultSet found = db.createStatement().executeQuery("SELECT born, email FROM customer WHERE login = 'ada'")) {
            found.next();
            return List.of(found.getDate(1), found.getMetaData().getColumnTypeName(1), found.getMetaData().getColumnTypeName(2));
        }
    }

    /** From its fifth execution on, the driver prepares a statement in the server. */
    static Object repeated() throws SQLException {
        List<Object> seen = new ArrayList<>();
        try (PreparedStatement asked = db.prepareStatement("SELECT email FROM customer WHERE login = ?")) {
            for (int time = 0; time < 8; time++) {
                asked.setString(1, time % 2 == 0 ? "ada" : "alan");
                ResultSet found = asked.executeQuery();
                found.next();
                seen.add(found.getString(1));
            }
        }
        return seen;
    }

    static Object cursor() throws SQLException {
        db.setAutoCommit(false);
        List<Object> seen = new ArrayList<>();
        try (PreparedStatement asked = db.prepareStatement(ALL)) {
            asked.setFetchSize(1);
            ResultSet found = asked.executeQuery();
            while (found.next()) {
                seen.add(found.getString(2));
            }
        }
        db.commit();
        return seen;
    }

    /** The driver needs the primary key of the table that it finds in the query. */
    static Object updatable() throws SQLException {
        if (CHANGED) {
            done("UPDATE customer SET email = 'x@example.org' WHERE login = 'ada'");
            return rows(ALL);
        }
        String query = "SELECT id, email FROM customer WHERE login = 'ada'";
        try (ResultSet found = db.createStatement(ResultSet.TYPE_SCROLL_INSENSITIVE, ResultSet.CONCUR_UPDATABLE).executeQuery(query)) {
            found.next();
            found.updateString("email", "x@example.org");
            found.updateRow();
        }
        return rows(ALL);
    }

    static Object rolledBack() throws SQLException {
        db.setAutoCommit(false);
        done("UPDATE customer SET email = 'gone@example.org'");
        db.rollback();
        return rows(ALL);
    }

    static Object savepoint() throws SQLException {
        db.setAutoCommit(false);
        java.sql.Savepoint before = db.setSavepoint();
        try {
            done(INSERT, "ada", null, null);
        } catch (SQLException error) {
            db.rollback(before);
        }
        done(INSERT, "next", "next@example.org", null);
        db.commit();
        return rows(ALL);
    }

    static int done(String statement, String... values) throws SQLException {
        try (PreparedStatement made = db.prepareStatement(statement)) {
            fill(made, values);
            return made.executeUpdate();
        }
    }

    static List<List<String>> rows(String query, String... values) throws SQLException {
        List<List<String>> seen = new ArrayList<>();
        try (PreparedStatement asked = db.prepareStatement(query)) {
            fill(asked, values);
            ResultSet found = asked.executeQuery();
            while (found.next()) {
                List<String> row = new ArrayList<>();
                for (int column = 1; column <= found.getMetaData().getColumnCount(); column++) {
                    row.add(found.getString(column));
                }
                seen.add(row);
            }
        }
        return seen;
    }

    static List<String> names(String query) throws SQLException {
        try (ResultSet found = db.createStatement().executeQuery(query)) {
            ResultSetMetaData about = found.getMetaData();
            List<String> seen = new ArrayList<>();
            for (int column = 1; column <= about.getColumnCount(); column++) {
                seen.add(about.getColumnName(column));
            }
            return seen;
        }
    }

    static void fill(PreparedStatement made, String... values) throws SQLException {
        for (int place = 0; place < values.length; place++) {
            made.setString(place + 1, values[place]);
        }
    }

    static String text(String value) {
        return "\"" + value.replace("\\", "\\\\").replace("\"", "\\\"") + "\"";
    }
}
