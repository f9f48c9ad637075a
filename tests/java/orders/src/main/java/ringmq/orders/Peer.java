package ringmq.orders;

import java.io.IOException;
import java.net.URI;
import java.net.http.HttpClient;
import java.net.http.HttpRequest;
import java.net.http.HttpResponse;
import java.time.Duration;

/** Another service that is called over HTTP. */
final class Peer {
    private static final Duration PATIENCE = Duration.ofSeconds(5);

    private final HttpClient client = HttpClient.newBuilder().connectTimeout(PATIENCE).build();
    private final URI address;

    Peer(int port) {
        address = URI.create("http://127.0.0.1:" + port);
    }

    /**
     * Asks and waits for the answer.
     *
     * @throws Refusal if the service says no
     * @throws IOException if nobody knows what the service did: it may have done all, or nothing, or do it later
     */
    void call(String path, Form request) throws Refusal, IOException, InterruptedException {
        HttpRequest post = HttpRequest.newBuilder(address.resolve(path)).timeout(PATIENCE)
            .POST(HttpRequest.BodyPublishers.ofByteArray(request.bytes())).build();
        HttpResponse<byte[]> response = client.send(post, HttpResponse.BodyHandlers.ofByteArray());
        if (response.statusCode() == 409) {
            throw new Refusal(Form.parse(response.body()).text("reason"));
        }
        if (response.statusCode() != 200) {
            throw new IOException(path + " was answered with " + response.statusCode());
        }
    }
}
