import { answer } from "./answer.js";
import { show, threads } from "./show.js";

show(answer(threads()));
