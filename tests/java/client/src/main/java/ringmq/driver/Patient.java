package ringmq.driver;

import org.apache.rocketmq.client.ClientConfig;

/** A client that waits longer for lookups than it would by itself: the machine may be busy with other things. */
final class Patient {
    private static final int LOOKUP_MILLIS = 30_000;

    private Patient() {
    }

    static void at(ClientConfig client, String namesrv) {
        client.setNamesrvAddr(namesrv);
        client.setMqClientApiTimeout(LOOKUP_MILLIS);
    }
}
