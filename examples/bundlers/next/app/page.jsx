"use client";

import { useEffect } from "react";
import { answer } from "../answer.js";
import { show, threads } from "../show.js";

export default function Page() {
  useEffect(() => void show(answer(threads())), []);
  return <output />;
}
