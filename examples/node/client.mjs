// Call the router from Node: no generated code, the protos are read at start.
//
// Start a node in another terminal (`hola node`), then:
//
//     cd examples/node && npm install && node client.mjs 127.0.0.1:7070

import { dirname, resolve } from "node:path";
import { argv, exit, stderr, stdout } from "node:process";
import { fileURLToPath } from "node:url";

import { credentials, loadPackageDefinition } from "@grpc/grpc-js";
import { loadSync } from "@grpc/proto-loader";

const QUESTION =
  "Tom has 12 apples. He buys 5 more and gives 3 to Anna. How many apples does Tom have?";
const protos = argv[3] ?? resolve(dirname(fileURLToPath(import.meta.url)), "../../proto");

const definition = loadSync("hola/v1/router.proto", { includeDirs: [protos], oneofs: true });
const { RouterService } = loadPackageDefinition(definition).hola.v1;
const router = new RouterService(argv[2] ?? "127.0.0.1:7070", credentials.createInsecure());

const request = { messages: [{ role: "user", content: QUESTION }] };
const stream = router.Generate(request, { deadline: Date.now() + 60_000 });
stream.on("data", ({ event }) => {
  if (event.tokens) {
    stdout.write(event.tokens.tokens.map((token) => token.text).join(""));
  } else if (event.finished) {
    stdout.write(`\n${event.finished.completionTokens} tokens\n`);
  } else if (event.failed) {
    stderr.write(`failed: ${event.failed.message}\n`);
    exit(1);
  }
});
stream.on("error", (error) => {
  stderr.write(`${error.message}\n`);
  exit(1);
});
stream.on("end", () => router.close());
