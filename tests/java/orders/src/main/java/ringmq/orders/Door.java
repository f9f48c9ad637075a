package ringmq.orders;

import com.sun.net.httpserver.HttpExchange;
import com.sun.net.httpserver.HttpServer;
import java.io.IOException;
import java.io.OutputStream;
import java.net.InetSocketAddress;
import java.util.concurrent.Executors;

/** The calls that a service answers, over HTTP: a form in, a form out; 409 is a {@link Refusal}. */
final class Door {
    private static final int THREADS = 8;

    interface Answer {
        Form to(Form request) throws Exception;
    }

    private final HttpServer server;

    Door(int port) throws IOException {
        server = HttpServer.create(new InetSocketAddress("127.0.0.1", port), 0);
        server.setExecutor(Executors.newFixedThreadPool(THREADS));
    }

    Door on(String path, Answer answer) {
        server.createContext(path, exchange -> serve(exchange, answer));
        return this;
    }

    void open() {
        server.start();
    }

    private static void serve(HttpExchange exchange, Answer answer) throws IOException {
        try (exchange) {
            Form request = Form.parse(exchange.getRequestBody().readAllBytes());
            try {
                reply(exchange, 200, answer.to(request));
            } catch (Refusal e) {
                reply(exchange, 409, new Form().with("reason", e.getMessage()));
            } catch (IllegalArgumentException e) {
                reply(exchange, 400, new Form().with("reason", e.getMessage()));
            } catch (Exception e) {
                e.printStackTrace();
                reply(exchange, 500, new Form().with("reason", e));
            }
        }
    }

    private static void reply(HttpExchange exchange, int status, Form form) throws IOException {
        byte[] body = form.bytes();
        exchange.sendResponseHeaders(status, body.length);
        try (OutputStream out = exchange.getResponseBody()) {
            out.write(body);
        }
    }
}
