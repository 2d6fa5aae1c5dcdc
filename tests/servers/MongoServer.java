import de.bwaldvogel.mongo.MongoServer;
import de.bwaldvogel.mongo.MongoVersion;
import de.bwaldvogel.mongo.backend.memory.MemoryBackend;
import de.bwaldvogel.mongo.bson.BsonTimestamp;
import de.bwaldvogel.mongo.bson.Document;
import de.bwaldvogel.mongo.wire.message.MongoMessage;
import java.net.InetSocketAddress;
import java.time.Instant;
import java.util.List;

/** A MongoDB server in memory: the port, and "streams" for one that has change streams. */
class Main {
    /** What a driver of today asks for, and what it is answered by this server all the same. */
    static class Version implements MongoVersion {
        public List<Integer> getVersionArray() {
            return List.of(5, 0, 0);
        }

        public int getWireVersion() {
            return 13;
        }
    }

    static class Backend extends MemoryBackend {
        private Document answered(MongoMessage message) {
            // It fails where two make the same collection; what waits for news must not be in the
            // way.
            if (message.getDocument().containsKey("getMore")) {
                return super.handleMessage(message);
            }
            synchronized (this) {
                return super.handleMessage(message);
            }
        }

        @Override
        public Document handleMessage(MongoMessage message) {
            Document answer = answered(message);
            answer.putIfAbsent("operationTime", new BsonTimestamp(Instant.now(), 1));
            return answer;
        }
    }

    public static void main(String[] arguments) throws Exception {
        MongoServer server = new MongoServer(new Backend().version(new Version()));
        if (arguments.length > 1) {
            server.enableOplog();
        }
        server.bind(new InetSocketAddress("127.0.0.1", Integer.parseInt(arguments[0])));
        Thread.sleep(Long.MAX_VALUE);
    }
}
