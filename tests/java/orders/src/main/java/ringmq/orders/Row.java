package ringmq.orders;

import java.sql.ResultSet;
import java.sql.SQLException;
import java.util.LinkedHashMap;
import java.util.Map;

/** A row's values by their columns' names. */
record Row(Map<String, Object> values) {
    static Row of(ResultSet at) throws SQLException {
        Map<String, Object> values = new LinkedHashMap<>();
        for (int column = 1; column <= at.getMetaData().getColumnCount(); column++) {
            values.put(at.getMetaData().getColumnLabel(column), at.getObject(column));
        }
        return new Row(values);
    }

    String text(String column) {
        return String.valueOf(values.get(column));
    }

    long number(String column) {
        return ((Number) values.get(column)).longValue();
    }
}
